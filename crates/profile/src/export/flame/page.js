// upprof: in a page, the search box takes the place of prompt(), which browsers refuse to frames.
// These replace inferno's functions of the same name.
function search_prompt() {
    document.getElementById("term").focus();
}
window.addEventListener("DOMContentLoaded", function() {
    var term = document.getElementById("term");
    init();
    term.addEventListener("input", function() {
        reset_search();
        searching = 0;
        matchedtxt.firstChild.nodeValue = " ";
        term.setCustomValidity("");
        if (!term.value) return;
        try {
            search(term.value);
            if (!searching) matchedtxt.firstChild.nodeValue = "Matched: 0%";
        } catch (invalid) {
            term.setCustomValidity("not a regular expression");
        }
    });
});
