//! The name of a function from its definition site: all functions of a source, and which of them a
//! prototype is.

mod lexer;
mod parser;

/// Functions of one source that are kept.
const MAX_DEFINITIONS: usize = 1 << 16;

/// A function, as the source defines it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Definition {
    /// What LuaJIT keeps as its first line: of `function` in a statement, of the `(` elsewhere
    /// (lj_parse.c).
    pub first_line: u32,
    /// Line of its `end`.
    pub last_line: u32,
    /// `a.b:c`, or `(anonymous in f)`. Hostile: may hold any character. At most about 120 bytes.
    pub name: String,
    /// Names of its parameters, a method's `self` included.
    pub parameters: Vec<String>,
    /// Whether it ends in `...`.
    pub vararg: bool,
}

/// What a prototype tells of the function it was made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// `GCproto.firstline`
    pub first_line: u32,
    /// `GCproto.firstline + numline`
    pub last_line: u32,
    /// `GCproto.numparams`
    pub parameters: u8,
    /// PROTO_VARARG
    pub vararg: bool,
    /// Their names, when the prototype has them.
    pub names: Option<Vec<String>>,
}

/// A source whose functions are known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Source {
    /// By first line.
    definitions: Vec<Definition>,
    /// Whether all of it could be read.
    pub whole: bool,
}

impl Source {
    /// Reads a source. Work and memory are proportional to its length; nesting is bounded as in LuaJIT.
    #[must_use]
    pub fn parse(text: &[u8]) -> Self {
        let (mut definitions, done) = parser::Parser::new(text).definitions();
        definitions.sort_by_key(|d| d.first_line);
        Self { definitions, whole: done.is_ok() }
    }

    /// Its functions, by first line.
    #[must_use]
    pub fn definitions(&self) -> &[Definition] {
        &self.definitions
    }

    /// The name of the function that a prototype was made from. Several that a prototype cannot tell
    /// apart (on one line, with the same parameters) are named together, up to three. `None` when no
    /// function here is like it: then this is not its source.
    #[must_use]
    pub fn name(&self, shape: &Shape) -> Option<String> {
        const MAX_NAMES: usize = 3;
        let from = self.definitions.partition_point(|d| d.first_line < shape.first_line);
        let on_line = self.definitions[from..].iter().take_while(|d| d.first_line == shape.first_line);
        let mut names: Vec<&str> = on_line.filter(|d| d.is(shape)).map(|d| d.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        (1..=MAX_NAMES).contains(&names.len()).then(|| names.join("|"))
    }

    /// Whether a function is all of this source: ngx_lua before 0.10.15 loads a file between `return function() `
    /// and `end`, both of which are not in it (ngx_http_lua_clfactory.c).
    #[must_use]
    pub fn is_body_of(&self, shape: &Shape) -> bool {
        let inner = self.definitions.iter().all(|d| d.last_line <= shape.last_line);
        self.whole
            && inner
            && self.name(shape).is_none()
            && shape.first_line == 1
            && shape.parameters == 0
            && !shape.vararg
    }
}

impl Definition {
    fn is(&self, shape: &Shape) -> bool {
        self.last_line == shape.last_line
            && self.parameters.len() == usize::from(shape.parameters)
            && self.vararg == shape.vararg
            && shape.names.as_ref().is_none_or(|names| *names == self.parameters)
    }
}

#[cfg(test)]
mod tests;
