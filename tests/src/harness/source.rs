//! Lua functions as their own source says: where each is defined, read from the running container.

use super::docker::{Container, docker};
use std::collections::HashMap;
use std::fs;

/// The application's folder in the target.
const APP: &str = "/app";
const CONF: &str = "/etc/nginx/nginx.conf";

/// The target's application and configuration, as they are in a container.
#[derive(Debug)]
pub struct Sources(HashMap<String, String>);

impl Sources {
    /// Copies them out.
    #[must_use]
    pub fn of(container: &Container) -> Self {
        let copy = tempfile::tempdir().expect("a folder");
        for path in [APP, CONF] {
            let from = format!("{}:{path}", container.id());
            docker(["cp", &from, copy.path().to_str().expect("UTF-8")]);
        }
        let text = |path: &std::path::Path| fs::read_to_string(path).expect("a text");
        let files = fs::read_dir(copy.path().join("app")).expect("a folder").flatten();
        let mut texts: HashMap<String, String> =
            files.map(|f| (format!("{APP}/{}", f.file_name().display()), text(&f.path()))).collect();
        texts.insert(CONF.into(), text(&copy.path().join("nginx.conf")));
        Self(texts)
    }

    fn text(&self, file: &str) -> &str {
        self.0.get(file).unwrap_or_else(|| panic!("no {file} in the target"))
    }

    /// The line, from 1, that `function NAME(` or `NAME = function(` is on.
    ///
    /// # Panics
    /// When the file has none or several.
    #[must_use]
    pub fn line(&self, name: &str, file: &str) -> usize {
        let (statement, assignment) = (format!("function {name}("), format!("{name} = function("));
        let on: Vec<usize> = (1..)
            .zip(self.text(file).lines())
            .filter(|(_, line)| line.contains(&statement) || line.contains(&assignment))
            .map(|(number, _)| number)
            .collect();
        assert_eq!(on.len(), 1, "definitions of {name} in {file}");
        on[0]
    }

    /// The last line of the function that is defined on this line: the `end` that is indented like it. Of
    /// the file, where the line is 0.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn end(&self, file: &str, definition: usize) -> usize {
        if definition == 0 {
            return self.text(file).lines().count();
        }
        let mut lines = (definition..).zip(self.text(file).lines().skip(definition - 1));
        let indent = |line: &str| line.len() - line.trim_start().len();
        let (_, first) = lines.next().unwrap_or_else(|| panic!("no line {definition} in {file}"));
        let ends = |line: &str| line.trim_start().starts_with("end") && indent(line) == indent(first);
        lines.find(|(_, line)| ends(line)).unwrap_or_else(|| panic!("no end of {file}:{definition}")).0
    }

    /// The frame of a function, as `docs/formats.md` spells it.
    #[must_use]
    pub fn lua(&self, name: &str, file: &str) -> String {
        format!("lua:{name}@{file}:{}", self.line(name, file))
    }

    /// The frame of a trace that starts in a function, at its first line that contains `start`.
    ///
    /// # Panics
    /// When there is no such line.
    #[must_use]
    pub fn trace(&self, name: &str, file: &str, start: &str) -> String {
        let from = self.line(name, file);
        let offset = self.text(file).lines().skip(from - 1).position(|line| line.contains(start));
        let line = from + offset.unwrap_or_else(|| panic!("no {start} in {name} of {file}"));
        format!("[trace {name}@{file}:{line}]")
    }

    /// The frame of code that is inline in nginx's configuration: of a directive in a block, such as
    /// `location = /phases`.
    ///
    /// # Panics
    /// When the block has no such directive.
    #[must_use]
    pub fn directive(&self, directive: &str, block: &str) -> String {
        let start = format!("{block} {{");
        let wanted = format!("{directive}_block ");
        let mut lines = (1..).zip(self.text(CONF).lines()).skip_while(|(_, line)| line.trim() != start);
        let found = lines.find(|(_, line)| line.trim_start().starts_with(&wanted));
        let (line, _) = found.unwrap_or_else(|| panic!("no {directive} in {block}"));
        format!("lua:{directive}@nginx.conf:{line}")
    }
}
