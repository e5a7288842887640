//! The words of Lua source, as LuaJIT cuts it (lj_lex.c), with the line each ends on.

/// What a word is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// An identifier. `goto` is one too, as in LuaJIT without 5.2 compatibility.
    Name,
    /// A reserved word.
    Keyword(Keyword),
    /// A string in any kind of quotes.
    Text,
    /// A number.
    Number,
    /// `...`
    Dots,
    /// Any other operator, by its first byte; `==` and its like are told from `=` by [`Kind::Compare`].
    Sign(u8),
    /// `==`, `~=`, `<=`, `>=`
    Compare,
    /// `..`
    Concat,
    /// `::`
    Label,
    /// The end of the text.
    End,
}

/// Lua's reserved words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keyword {
    And,
    Break,
    Do,
    Else,
    Elseif,
    End,
    False,
    For,
    Function,
    If,
    In,
    Local,
    Nil,
    Not,
    Or,
    Repeat,
    Return,
    Then,
    True,
    Until,
    While,
}

/// One word: where it is in the text, and the line (from 1) its last byte is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) line: u32,
}

/// Cuts a text into words.
#[derive(Debug, Clone)]
pub(super) struct Lexer<'a> {
    text: &'a [u8],
    at: usize,
    line: u32,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a [u8]) -> Self {
        let mut lexer = Self { text, at: 0, line: 1 };
        // lj_load.c leaves a byte order mark and a first line with `#` out.
        if text.starts_with(b"\xef\xbb\xbf") {
            lexer.at = 3;
        }
        if lexer.peek(0) == Some(b'#') {
            lexer.skip_line();
        }
        lexer
    }

    /// The words of a part of the same text.
    pub(super) fn part(text: &'a [u8], start: usize, end: usize) -> Self {
        Self { text: text.get(..end).unwrap_or(text), at: start, line: 1 }
    }

    fn peek(&self, ahead: usize) -> Option<u8> {
        self.text.get(self.at + ahead).copied()
    }

    /// The next word; [`Kind::End`] again and again at the end. A string or comment without an end
    /// reaches to the end of the text.
    pub(super) fn next(&mut self) -> Token {
        self.skip_space();
        let start = self.at;
        let kind = self.word();
        Token { kind, start, end: self.at, line: self.line }
    }

    /// `\r\n` and `\n\r` are one line end (lex_newline).
    fn newline(&mut self) {
        let first = self.peek(0);
        self.at += 1;
        if matches!(self.peek(0), Some(b'\n' | b'\r')) && self.peek(0) != first {
            self.at += 1;
        }
        self.line = self.line.saturating_add(1);
    }

    fn skip_line(&mut self) {
        while self.peek(0).is_some_and(|c| c != b'\n' && c != b'\r') {
            self.at += 1;
        }
    }

    fn skip_space(&mut self) {
        while let Some(c) = self.peek(0) {
            match c {
                b'\n' | b'\r' => self.newline(),
                b' ' | b'\t' | 0x0b | 0x0c => self.at += 1,
                b'-' if self.peek(1) == Some(b'-') => {
                    self.at += 2;
                    match self.long_bracket() {
                        Some(level) => self.long_text(level),
                        None => self.skip_line(),
                    }
                }
                _ => return,
            }
        }
    }

    /// The number of `=` when `[[`, `[=[`, … starts here.
    fn long_bracket(&self) -> Option<usize> {
        let rest = self.text.get(self.at..)?.strip_prefix(b"[")?;
        let level = rest.iter().take_while(|c| **c == b'=').count();
        (rest.get(level) == Some(&b'[')).then_some(level)
    }

    fn long_text(&mut self, level: usize) {
        self.at += level + 2;
        while let Some(c) = self.peek(0) {
            match c {
                b'\n' | b'\r' => self.newline(),
                b']' => {
                    self.at += 1;
                    let equals = (0..level).take_while(|n| self.peek(*n) == Some(b'=')).count();
                    if equals == level && self.peek(level) == Some(b']') {
                        self.at += level + 1;
                        return;
                    }
                }
                _ => self.at += 1,
            }
        }
    }

    fn quoted(&mut self, quote: u8) {
        self.at += 1;
        while let Some(c) = self.peek(0) {
            match c {
                // An error to LuaJIT; here the string ends, so that the rest can be read.
                b'\n' | b'\r' => return,
                b'\\' => self.escape(),
                _ => {
                    self.at += 1;
                    if c == quote {
                        return;
                    }
                }
            }
        }
    }

    fn escape(&mut self) {
        self.at += 1;
        match self.peek(0) {
            Some(b'\n' | b'\r') => self.newline(),
            // Skips all space that follows, line ends too.
            Some(b'z') => {
                self.at += 1;
                while let Some(c) = self.peek(0) {
                    match c {
                        b'\n' | b'\r' => self.newline(),
                        b' ' | b'\t' | 0x0b | 0x0c => self.at += 1,
                        _ => return,
                    }
                }
            }
            Some(_) => self.at += 1,
            None => {}
        }
    }

    fn word(&mut self) -> Kind {
        let Some(c) = self.peek(0) else { return Kind::End };
        if is_ident(c) && !c.is_ascii_digit() {
            let from = self.at;
            while self.peek(0).is_some_and(is_ident) {
                self.at += 1;
            }
            return keyword(&self.text[from..self.at]).map_or(Kind::Name, Kind::Keyword);
        }
        if c.is_ascii_digit() || (c == b'.' && self.peek(1).is_some_and(|d| d.is_ascii_digit())) {
            return self.number();
        }
        if c == b'"' || c == b'\'' {
            self.quoted(c);
            return Kind::Text;
        }
        if let Some(level) = self.long_bracket() {
            self.long_text(level);
            return Kind::Text;
        }
        let (kind, len) = match (c, self.peek(1), self.peek(2)) {
            (b'.', Some(b'.'), Some(b'.')) => (Kind::Dots, 3),
            (b'.', Some(b'.'), _) => (Kind::Concat, 2),
            (b'=' | b'~' | b'<' | b'>', Some(b'='), _) => (Kind::Compare, 2),
            (b':', Some(b':'), _) => (Kind::Label, 2),
            _ => (Kind::Sign(c), 1),
        };
        self.at += len;
        kind
    }

    /// As lex_number: everything that may belong to a number, signs behind an exponent too.
    fn number(&mut self) -> Kind {
        let hex = self.peek(0) == Some(b'0') && matches!(self.peek(1), Some(b'x' | b'X'));
        let mut before = 0;
        while let Some(c) = self.peek(0) {
            let exponent = if hex { matches!(before, b'p' | b'P') } else { matches!(before, b'e' | b'E') };
            if !(is_ident(c) || c == b'.' || (exponent && (c == b'+' || c == b'-'))) {
                break;
            }
            before = c;
            self.at += 1;
        }
        Kind::Number
    }
}

/// lj_char.c: letters, digits, `_`, and every byte above ASCII.
fn is_ident(c: u8) -> bool {
    c.is_ascii_alphanumeric() || c == b'_' || c >= 0x80
}

fn keyword(word: &[u8]) -> Option<Keyword> {
    Some(match word {
        b"and" => Keyword::And,
        b"break" => Keyword::Break,
        b"do" => Keyword::Do,
        b"else" => Keyword::Else,
        b"elseif" => Keyword::Elseif,
        b"end" => Keyword::End,
        b"false" => Keyword::False,
        b"for" => Keyword::For,
        b"function" => Keyword::Function,
        b"if" => Keyword::If,
        b"in" => Keyword::In,
        b"local" => Keyword::Local,
        b"nil" => Keyword::Nil,
        b"not" => Keyword::Not,
        b"or" => Keyword::Or,
        b"repeat" => Keyword::Repeat,
        b"return" => Keyword::Return,
        b"then" => Keyword::Then,
        b"true" => Keyword::True,
        b"until" => Keyword::Until,
        b"while" => Keyword::While,
        _ => return None,
    })
}
