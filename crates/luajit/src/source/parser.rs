//! The functions of a Lua source: a parser of statements and expressions (lj_parse.c) that keeps nothing
//! but where each function is, what it is assigned to and in which one it lies.

use super::lexer::{Keyword, Kind, Lexer, Token};
use super::{Definition, MAX_DEFINITIONS};

/// LuaJIT refuses deeper nesting itself (LJ_MAX_XLEVEL).
const MAX_DEPTH: u32 = 200;
/// Bytes of a name; what is longer is cut.
const MAX_NAME: usize = 120;

/// The text is not Lua, or nests deeper than LuaJIT allows: what comes after is not read.
pub(super) struct NotLua;

type Parsed = Result<(), NotLua>;

/// A part of the text that spells a place such as `a.b["c"]`.
#[derive(Debug, Clone, Copy)]
struct Span {
    start: usize,
    end: usize,
}

/// What an expression's value is for.
#[derive(Clone, Copy)]
enum Purpose<'p> {
    /// Stored under this name.
    Name(&'p str),
    /// An argument of a call of what is spelled here.
    Argument(Span),
    /// Anything else.
    Other,
}

pub(super) struct Parser<'a> {
    text: &'a [u8],
    lexer: Lexer<'a>,
    token: Token,
    depth: u32,
    /// Names of the functions around: those without a name have none.
    around: Vec<Option<String>>,
    found: Vec<Definition>,
}

impl<'a> Parser<'a> {
    pub(super) fn new(text: &'a [u8]) -> Self {
        let mut lexer = Lexer::new(text);
        let token = lexer.next();
        Self { text, lexer, token, depth: 0, around: Vec::new(), found: Vec::new() }
    }

    /// All functions up to the end, or to the first thing that is not Lua.
    pub(super) fn definitions(mut self) -> (Vec<Definition>, Parsed) {
        let done = self.block().and_then(|()| self.expect(Kind::End));
        (self.found, done)
    }

    // ---- words ----

    fn advance(&mut self) -> Token {
        std::mem::replace(&mut self.token, self.lexer.next())
    }

    fn at(&self, kind: Kind) -> bool {
        self.token.kind == kind
    }

    fn at_keyword(&self, keyword: Keyword) -> bool {
        self.at(Kind::Keyword(keyword))
    }

    fn accept(&mut self, kind: Kind) -> bool {
        let there = self.at(kind);
        if there {
            self.advance();
        }
        there
    }

    fn expect(&mut self, kind: Kind) -> Parsed {
        if self.at(Kind::End) && kind == Kind::End || self.accept(kind) { Ok(()) } else { Err(NotLua) }
    }

    fn keyword(&mut self, keyword: Keyword) -> Parsed {
        self.expect(Kind::Keyword(keyword))
    }

    fn name(&mut self) -> Result<Token, NotLua> {
        if self.at(Kind::Name) { Ok(self.advance()) } else { Err(NotLua) }
    }

    fn bytes(&self, token: Token) -> &'a [u8] {
        &self.text[token.start..token.end]
    }

    fn deeper(&mut self, parse: impl FnOnce(&mut Self) -> Parsed) -> Parsed {
        if self.depth == MAX_DEPTH {
            return Err(NotLua);
        }
        self.depth += 1;
        let done = parse(self);
        self.depth -= 1;
        done
    }

    // ---- statements ----

    fn block(&mut self) -> Parsed {
        self.deeper(|p| {
            loop {
                match p.token.kind {
                    Kind::End
                    | Kind::Keyword(Keyword::End | Keyword::Else | Keyword::Elseif | Keyword::Until) => {
                        return Ok(());
                    }
                    Kind::Keyword(Keyword::Return) => {
                        p.advance();
                        if !p.ends_block() && !p.at(Kind::Sign(b';')) {
                            p.expressions(&[])?;
                        }
                        p.accept(Kind::Sign(b';'));
                    }
                    _ => p.statement()?,
                }
            }
        })
    }

    fn ends_block(&self) -> bool {
        use Keyword::{Else, Elseif, End, Until};
        matches!(self.token.kind, Kind::End | Kind::Keyword(End | Else | Elseif | Until))
    }

    fn statement(&mut self) -> Parsed {
        let Kind::Keyword(keyword) = self.token.kind else {
            return match self.token.kind {
                Kind::Sign(b';') => {
                    self.advance();
                    Ok(())
                }
                Kind::Label => {
                    self.advance();
                    self.name()?;
                    self.expect(Kind::Label)
                }
                _ => self.call_or_assignment(),
            };
        };
        match keyword {
            Keyword::If => self.if_statement(),
            Keyword::While => {
                self.advance();
                self.expression(Purpose::Other)?;
                self.body_of(Keyword::Do)
            }
            Keyword::Do => self.body_of(Keyword::Do),
            Keyword::For => self.for_statement(),
            Keyword::Repeat => {
                self.advance();
                self.block()?;
                self.keyword(Keyword::Until)?;
                self.expression(Purpose::Other)
            }
            Keyword::Function => self.function_statement(),
            Keyword::Local => self.local_statement(),
            Keyword::Break => {
                self.advance();
                Ok(())
            }
            _ => self.call_or_assignment(),
        }
    }

    /// `do … end`
    fn body_of(&mut self, opener: Keyword) -> Parsed {
        self.keyword(opener)?;
        self.block()?;
        self.keyword(Keyword::End)
    }

    fn if_statement(&mut self) -> Parsed {
        while self.at_keyword(Keyword::If) || self.at_keyword(Keyword::Elseif) {
            self.advance();
            self.expression(Purpose::Other)?;
            self.keyword(Keyword::Then)?;
            self.block()?;
        }
        if self.accept(Kind::Keyword(Keyword::Else)) {
            self.block()?;
        }
        self.keyword(Keyword::End)
    }

    fn for_statement(&mut self) -> Parsed {
        self.advance();
        self.name()?;
        if !self.accept(Kind::Sign(b'=')) {
            while self.accept(Kind::Sign(b',')) {
                self.name()?;
            }
            self.keyword(Keyword::In)?;
        }
        self.expressions(&[])?;
        self.body_of(Keyword::Do)
    }

    /// `function a.b:c(…) … end`
    fn function_statement(&mut self) -> Parsed {
        let line = self.advance().line;
        let start = self.name()?;
        let mut end = start.end;
        let mut method = false;
        while !method && (self.at(Kind::Sign(b'.')) || self.at(Kind::Sign(b':'))) {
            method = self.advance().kind == Kind::Sign(b':');
            end = self.name()?.end;
        }
        let name = self.spell(Span { start: start.start, end });
        self.function(line, Purpose::Name(&name), method)
    }

    fn local_statement(&mut self) -> Parsed {
        self.advance();
        if self.accept(Kind::Keyword(Keyword::Function)) {
            let name = self.name()?;
            let name = self.spell(Span { start: name.start, end: name.end });
            // The line of the `(`, not of the keyword (parse_local).
            return self.function(self.token.line, Purpose::Name(&name), false);
        }
        let mut names = Vec::new();
        loop {
            let name = self.name()?;
            names.push(Span { start: name.start, end: name.end });
            if !self.accept(Kind::Sign(b',')) {
                break;
            }
        }
        if self.accept(Kind::Sign(b'=')) { self.expressions(&names) } else { Ok(()) }
    }

    fn call_or_assignment(&mut self) -> Parsed {
        let goto = self.at(Kind::Name) && self.bytes(self.token) == b"goto";
        let first = self.suffixed()?;
        if goto && self.at(Kind::Name) {
            self.advance();
            return Ok(());
        }
        if !self.at(Kind::Sign(b',')) && !self.at(Kind::Sign(b'=')) {
            return Ok(());
        }
        let mut targets = vec![first];
        while self.accept(Kind::Sign(b',')) {
            targets.push(self.suffixed()?);
        }
        self.expect(Kind::Sign(b'='))?;
        self.expressions(&targets)
    }

    // ---- expressions ----

    /// A list of expressions, each for the target at its place.
    fn expressions(&mut self, targets: &[Span]) -> Parsed {
        for i in 0.. {
            match targets.get(i) {
                Some(target) => {
                    let name = self.spell(*target);
                    self.expression(Purpose::Name(&name))?;
                }
                None => self.expression(Purpose::Other)?,
            }
            if !self.accept(Kind::Sign(b',')) {
                break;
            }
        }
        Ok(())
    }

    fn expression(&mut self, purpose: Purpose<'_>) -> Parsed {
        self.deeper(|p| {
            loop {
                while matches!(p.token.kind, Kind::Keyword(Keyword::Not) | Kind::Sign(b'-' | b'#')) {
                    p.advance();
                }
                p.operand(purpose)?;
                let operator = match p.token.kind {
                    Kind::Keyword(Keyword::And | Keyword::Or) | Kind::Compare | Kind::Concat => true,
                    Kind::Sign(c) => b"+-*/%^<>".contains(&c),
                    _ => false,
                };
                if !operator {
                    return Ok(());
                }
                p.advance();
            }
        })
    }

    fn operand(&mut self, purpose: Purpose<'_>) -> Parsed {
        match self.token.kind {
            Kind::Number
            | Kind::Text
            | Kind::Dots
            | Kind::Keyword(Keyword::Nil | Keyword::True | Keyword::False) => {
                self.advance();
                Ok(())
            }
            Kind::Sign(b'{') => {
                let name = match purpose {
                    Purpose::Name(name) => Some(name),
                    Purpose::Argument(_) | Purpose::Other => None,
                };
                self.table(name).map(|_| ())
            }
            Kind::Keyword(Keyword::Function) => {
                self.advance();
                // The line of the `(`, not of the keyword (expr_simple).
                self.function(self.token.line, purpose, false)
            }
            _ => self.suffixed().map(|_| ()),
        }
    }

    /// A name or an expression in parentheses, with what follows it: fields, indices, calls.
    fn suffixed(&mut self) -> Result<Span, NotLua> {
        let first = self.token;
        let mut span = Span { start: first.start, end: first.end };
        match first.kind {
            Kind::Name => {
                self.advance();
            }
            Kind::Sign(b'(') => {
                self.advance();
                // `(function() … end)()`: what is called at once is not what is stored.
                self.expression(Purpose::Other)?;
                span.end = self.closing(b')')?;
            }
            _ => return Err(NotLua),
        }
        loop {
            match self.token.kind {
                Kind::Sign(b'.') => {
                    self.advance();
                    span.end = self.name()?.end;
                }
                Kind::Sign(b'[') => {
                    self.advance();
                    self.expression(Purpose::Other)?;
                    span.end = self.closing(b']')?;
                }
                Kind::Sign(b':') => {
                    self.advance();
                    span.end = self.name()?.end;
                    span.end = self.arguments(span)?;
                }
                Kind::Sign(b'(' | b'{') | Kind::Text => span.end = self.arguments(span)?,
                _ => return Ok(span),
            }
        }
    }

    /// The arguments of a call; returns where they end.
    fn arguments(&mut self, callee: Span) -> Result<usize, NotLua> {
        match self.token.kind {
            Kind::Text => Ok(self.advance().end),
            Kind::Sign(b'{') => self.table(None),
            _ => {
                self.expect(Kind::Sign(b'('))?;
                while !self.at(Kind::Sign(b')')) {
                    self.expression(Purpose::Argument(callee))?;
                    if !self.accept(Kind::Sign(b',')) {
                        break;
                    }
                }
                self.closing(b')')
            }
        }
    }

    /// A bracket that closes; returns where it ends.
    fn closing(&mut self, bracket: u8) -> Result<usize, NotLua> {
        let end = self.token.end;
        self.expect(Kind::Sign(bracket))?;
        Ok(end)
    }

    /// A table constructor: its fields are named below the table's own name, if it has one. Returns where
    /// it ends.
    fn table(&mut self, name: Option<&str>) -> Result<usize, NotLua> {
        self.expect(Kind::Sign(b'{'))?;
        let mut position = 0_u32;
        while !self.at(Kind::Sign(b'}')) {
            let field = self.field_name(name, &mut position)?;
            self.expression(field.as_deref().map_or(Purpose::Other, Purpose::Name))?;
            if !self.accept(Kind::Sign(b',')) && !self.accept(Kind::Sign(b';')) {
                break;
            }
        }
        self.closing(b'}')
    }

    /// The name of the field whose value comes next.
    fn field_name(&mut self, table: Option<&str>, position: &mut u32) -> Result<Option<String>, NotLua> {
        let key = self.token;
        if key.kind == Kind::Name && self.lexer.clone().next().kind == Kind::Sign(b'=') {
            self.advance();
            self.advance();
            return Ok(Some(below(table, &String::from_utf8_lossy(self.bytes(key)))));
        }
        if key.kind != Kind::Sign(b'[') {
            *position = position.saturating_add(1);
            return Ok(table.map(|t| shorten(&format!("{t}[{position}]"))));
        }
        self.advance();
        let inner = self.token;
        self.expression(Purpose::Other)?;
        let end = self.closing(b']')?;
        self.expect(Kind::Sign(b'='))?;
        let spelled = self.spell(Span { start: key.start, end });
        Ok(match (table, inner.kind) {
            (None, Kind::Text) => Some(spelled.trim_start_matches('.').to_owned()),
            (None, _) => None,
            (Some(table), _) => Some(shorten(&format!("{table}{spelled}"))),
        })
    }

    // ---- functions ----

    /// From the `(` of the parameters to the `end`.
    fn function(&mut self, line: u32, purpose: Purpose<'_>, method: bool) -> Parsed {
        self.expect(Kind::Sign(b'('))?;
        let mut parameters: Vec<String> = Vec::new();
        if method {
            parameters.push("self".into());
        }
        let mut vararg = false;
        while !self.at(Kind::Sign(b')')) {
            if self.accept(Kind::Dots) {
                vararg = true;
                break;
            }
            let name = self.name()?;
            parameters.push(String::from_utf8_lossy(self.bytes(name)).into_owned());
            if !self.accept(Kind::Sign(b',')) {
                break;
            }
        }
        self.expect(Kind::Sign(b')'))?;
        let own = match purpose {
            Purpose::Name(name) => Some(name.to_owned()),
            Purpose::Argument(_) | Purpose::Other => None,
        };
        let name = own.clone().unwrap_or_else(|| self.anonymous(purpose));
        self.around.push(own);
        let body = self.block();
        self.around.pop();
        body?;
        let last_line = self.token.line;
        self.keyword(Keyword::End)?;
        if self.found.len() == MAX_DEFINITIONS {
            return Err(NotLua);
        }
        self.found.push(Definition { first_line: line, last_line, name, parameters, vararg });
        Ok(())
    }

    /// A function without a name is told by the one it lies in, and by whom it is given to.
    fn anonymous(&self, purpose: Purpose<'_>) -> String {
        let place = self.around.iter().rev().find_map(|name| name.as_deref());
        let mut text = String::from("(anonymous");
        if let Some(place) = place {
            text.push_str(" in ");
            text.push_str(place);
        }
        if let Purpose::Argument(callee) = purpose {
            text.push_str(" for ");
            text.push_str(&self.spell(callee));
        }
        text = shorten(&text);
        text.push(')');
        text
    }

    /// A place as people would write it: without spaces and comments, and `a["b"]` as `a.b`.
    fn spell(&self, span: Span) -> String {
        let mut words = Lexer::part(self.text, span.start, span.end);
        let mut out = String::new();
        loop {
            let word = words.next();
            if word.kind == Kind::End || out.len() > MAX_NAME {
                return shorten(&out);
            }
            if word.kind == Kind::Sign(b'[') {
                let mut ahead = words.clone();
                let key = ahead.next();
                if key.kind == Kind::Text && ahead.next().kind == Kind::Sign(b']') {
                    match plain_key(self.bytes(key)) {
                        Some(name) => {
                            out.push('.');
                            out.push_str(name);
                        }
                        None => {
                            out.push('[');
                            out.push_str(&String::from_utf8_lossy(self.bytes(key)));
                            out.push(']');
                        }
                    }
                    words = ahead;
                    continue;
                }
            }
            if matches!(word.kind, Kind::Keyword(Keyword::Function)) {
                out.push('…');
                return shorten(&out);
            }
            out.push_str(&String::from_utf8_lossy(self.bytes(word)));
        }
    }
}

/// `"name"` as `name`, if it could be written as a field.
fn plain_key(quoted: &[u8]) -> Option<&str> {
    let inner = std::str::from_utf8(quoted).ok()?.strip_prefix(['"', '\''])?.strip_suffix(['"', '\''])?;
    let first = inner.chars().next()?;
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    (!first.is_ascii_digit() && inner.chars().all(plain)).then_some(inner)
}

fn below(table: Option<&str>, field: &str) -> String {
    match table {
        Some(table) => shorten(&format!("{table}.{field}")),
        None => shorten(field),
    }
}

fn shorten(text: &str) -> String {
    if text.len() <= MAX_NAME {
        return text.to_owned();
    }
    let end = (0..=MAX_NAME).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
    format!("{}…", &text[..end])
}
