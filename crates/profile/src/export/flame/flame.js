// upprof: the address bar remembers zoom and search only where the browser lets it. A file:// page
// or a frame may not, and the exception would stop the search half-way.
(function() {
    var replace = history.replaceState;
    history.replaceState = function() {
        try { replace.apply(history, arguments); } catch (refused) { /* nothing to remember it in */ }
    };
})();
