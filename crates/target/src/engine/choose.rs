use super::{ResolveError, Summary};
use crate::ContainerName;

/// More suggestions than this help nobody.
const MAX_NEAR: usize = 5;
/// More candidates than this are not listed.
const MAX_CANDIDATES: usize = 20;

/// The one container `name` means, running or not.
pub(super) fn choose<'a>(name: &ContainerName, all: &'a [Summary]) -> Result<&'a Summary, ResolveError> {
    if let Some(exact) = all.iter().find(|c| c.name == name.as_str()) {
        return Ok(exact);
    }
    let mut fits: Vec<&Summary> =
        all.iter().filter(|c| c.service.as_deref() == Some(name.as_str())).collect();
    // Old instances of a service stay behind, stopped: the ones that run are meant.
    if fits.iter().any(|c| c.status.is_alive()) {
        fits.retain(|c| c.status.is_alive());
    }
    if let Some(prefix) = name.as_id_prefix() {
        for c in all.iter().filter(|c| c.id.starts_with(&prefix)) {
            if !fits.iter().any(|f| f.id == c.id) {
                fits.push(c);
            }
        }
    }
    match fits.as_slice() {
        [] => Err(ResolveError::NotFound { name: name.shown(), near: near(name.as_str(), all) }),
        [one] => Ok(one),
        _ => {
            let mut candidates: Vec<String> = fits.iter().map(|c| label(c)).collect();
            candidates.sort();
            candidates.truncate(MAX_CANDIDATES);
            Err(ResolveError::Ambiguous { name: name.shown(), candidates })
        }
    }
}

/// A container as it is listed: name, short ID, and what it does when it does not run.
fn label(c: &Summary) -> String {
    let id: String = c.id.chars().take(12).collect();
    if c.status.is_alive() {
        format!("{} ({id})", c.name)
    } else {
        format!("{} ({id}, {})", c.name, c.status)
    }
}

/// Running containers with names or services like `name`, the closest first.
fn near(name: &str, all: &[Summary]) -> Vec<String> {
    let wanted = name.to_lowercase();
    let mut found: Vec<(usize, &str)> = all
        .iter()
        .filter(|c| c.status.is_alive())
        .flat_map(|c| [Some(c.name.as_str()), c.service.as_deref()])
        .flatten()
        .filter_map(|have| Some((distance_if_near(&wanted, &have.to_lowercase())?, have)))
        .collect();
    found.sort();
    found.dedup();
    found.into_iter().take(MAX_NEAR).map(|(_, have)| have.to_owned()).collect()
}

/// How far two names are apart, if they are near: one edit in three letters, or one within the other.
fn distance_if_near(a: &str, b: &str) -> Option<usize> {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(256).collect(), b.chars().take(256).collect());
    let edits = edits(&a, &b);
    let (short, long) = if a.len() < b.len() { (&a, &b) } else { (&b, &a) };
    let within = short.len() >= 2 && long.windows(short.len()).any(|w| w == short.as_slice());
    (within || edits <= (a.len() / 3).max(1)).then_some(edits)
}

/// Levenshtein's distance.
fn edits(a: &[char], b: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(ca != cb);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Status;

    fn c(name: &str, id: &str, service: Option<&str>, status: Status) -> Summary {
        let id = format!("{id:0<64}");
        Summary { id, name: name.into(), image: "i".into(), service: service.map(Into::into), status }
    }

    fn pick(text: &str, all: &[Summary]) -> Result<String, ResolveError> {
        choose(&ContainerName::parse(text).unwrap(), all).map(|c| c.name.clone())
    }

    #[test]
    fn the_exact_name_wins_over_an_id_and_a_service() {
        let all = [
            c("other", "cafe1", None, Status::Running),
            c("cafe", "beef1", None, Status::Exited),
            c("third", "beef2", Some("cafe"), Status::Running),
        ];
        assert_eq!(pick("cafe", &all).unwrap(), "cafe", "even when it is stopped");
        assert_eq!(pick("cafe1", &all).unwrap(), "other");
        assert_eq!(pick("CAFE1", &all).unwrap(), "other");
    }

    #[test]
    fn a_prefix_that_fits_two_is_ambiguous_and_lists_them() {
        let all = [c("b", "abc1", None, Status::Running), c("a", "abc2", None, Status::Exited)];
        let Err(ResolveError::Ambiguous { name, candidates }) = pick("abc", &all) else {
            panic!("not ambiguous")
        };
        assert_eq!(name, "abc");
        assert_eq!(candidates, ["a (abc200000000, exited)", "b (abc100000000)"]);
        assert_eq!(pick("abc2", &all).unwrap(), "a");
        assert!(matches!(pick("ab", &all), Err(ResolveError::NotFound { .. })), "two digits are too few");
    }

    #[test]
    fn a_service_means_its_running_instance() {
        let mut all = vec![
            c("p-web-1", "111", Some("web"), Status::Exited),
            c("p-web-2", "222", Some("web"), Status::Running),
        ];
        assert_eq!(pick("web", &all).unwrap(), "p-web-2");
        all.push(c("p-web-3", "333", Some("web"), Status::Paused));
        assert!(
            matches!(pick("web", &all), Err(ResolveError::Ambiguous { candidates, .. }) if candidates.len() == 2)
        );
    }

    #[test]
    fn a_service_and_an_id_that_disagree_are_ambiguous() {
        let all = [c("one", "face1", None, Status::Running), c("two", "1234", Some("face"), Status::Running)];
        assert!(matches!(pick("face", &all), Err(ResolveError::Ambiguous { .. })));
        let both = [c("one", "face1", Some("face"), Status::Running)];
        assert_eq!(pick("face", &both).unwrap(), "one", "one container, found twice");
    }

    #[test]
    fn near_names_are_running_ones_the_closest_first() {
        let all = [
            c("apisix-dashboard", "1", None, Status::Running),
            c("apisix", "2", None, Status::Running),
            c("apisyx", "3", None, Status::Exited),
            c("postgres", "4", None, Status::Running),
        ];
        let Err(ResolveError::NotFound { near, .. }) = pick("apisxi", &all) else { panic!("found") };
        assert_eq!(near, ["apisix"]);
        let Err(ResolveError::NotFound { near, .. }) = pick("APISI", &all) else { panic!("found") };
        assert_eq!(near, ["apisix", "apisix-dashboard"]);
        let Err(ResolveError::NotFound { near, .. }) = pick("zzz", &all) else { panic!("found") };
        assert!(near.is_empty());
        let Err(ResolveError::NotFound { near, .. }) = pick("po", &all) else { panic!("found") };
        assert_eq!(near, ["postgres"]);
        let Err(ResolveError::NotFound { near, .. }) = pick("p", &all) else { panic!("found") };
        assert!(near.is_empty(), "one letter is in nearly every name");
        let many: Vec<_> = (0..9).map(|i| c(&format!("web{i}"), "5", None, Status::Running)).collect();
        let Err(ResolveError::NotFound { near, .. }) = pick("webx", &many) else { panic!("found") };
        assert_eq!(near.len(), 5);
    }

    #[test]
    fn distances() {
        let d = |a: &str, b: &str| edits(&a.chars().collect::<Vec<_>>(), &b.chars().collect::<Vec<_>>());
        assert_eq!((d("kitten", "sitting"), d("", "abc"), d("abc", ""), d("abc", "abc")), (3, 3, 3, 0));
    }
}
