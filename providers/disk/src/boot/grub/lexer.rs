//! Words of GRUB's script language (GRUB manual, "Shell-like scripting").

/// A word before its variables are put in.
pub type Word = Vec<Part>;

/// A piece of a word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// Text as it is; quoted text never ends a word.
    Text(String),
    /// A variable's value; where it was not quoted, blanks in it divide words.
    Variable { name: String, quoted: bool },
}

/// A token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Token {
    /// A word.
    Word(Word),
    /// The end of a command.
    End,
    /// `{` on its own.
    Open,
    /// `}` on its own.
    Close,
}

/// Divides a script into tokens. Nothing is an error: what is not closed ends with the text.
pub fn tokens(text: &str) -> Vec<Token> {
    let mut lexer = Lexer { rest: text.chars().peekable(), tokens: Vec::new(), word: None };
    lexer.run();
    lexer.tokens
}

struct Lexer<'a> {
    rest: std::iter::Peekable<std::str::Chars<'a>>,
    tokens: Vec<Token>,
    /// The word being read, which quotes may leave empty.
    word: Option<Word>,
}

impl Lexer<'_> {
    fn run(&mut self) {
        while let Some(next) = self.rest.next() {
            match next {
                ' ' | '\t' | '\r' => self.end_word(),
                '\n' | ';' | '|' | '&' => {
                    self.end_word();
                    self.tokens.push(Token::End);
                }
                '#' if self.word.is_none() => while self.rest.next_if(|c| *c != '\n').is_some() {},
                '\\' => match self.rest.next() {
                    Some('\n') | None => {}
                    Some(escaped) => self.push(escaped),
                },
                '\'' => {
                    self.word.get_or_insert_default();
                    while let Some(inner) = self.rest.next().filter(|c| *c != '\'') {
                        self.push(inner);
                    }
                }
                '"' => self.double_quoted(),
                '$' => self.variable(false),
                other => self.push(other),
            }
        }
        self.end_word();
        self.tokens.push(Token::End);
    }

    fn double_quoted(&mut self) {
        self.word.get_or_insert_default();
        while let Some(next) = self.rest.next() {
            match next {
                '"' => return,
                '$' => self.variable(true),
                '\\' => match self.rest.next() {
                    Some(escaped @ ('$' | '"' | '\\')) => self.push(escaped),
                    Some('\n') | None => {}
                    Some(other) => {
                        self.push('\\');
                        self.push(other);
                    }
                },
                other => self.push(other),
            }
        }
    }

    fn variable(&mut self, quoted: bool) {
        let mut name = String::new();
        if self.rest.next_if_eq(&'{').is_some() {
            while let Some(inner) = self.rest.next().filter(|c| *c != '}') {
                name.push(inner);
            }
        } else if let Some(special) =
            self.rest.next_if(|c| matches!(c, '?' | '#' | '@' | '*') || c.is_ascii_digit())
        {
            name.push(special);
        } else {
            while let Some(inner) = self.rest.next_if(|c| c.is_ascii_alphanumeric() || *c == '_') {
                name.push(inner);
            }
        }
        if name.is_empty() {
            self.push('$');
        } else {
            self.word.get_or_insert_default().push(Part::Variable { name, quoted });
        }
    }

    fn push(&mut self, character: char) {
        let word = self.word.get_or_insert_default();
        match word.last_mut() {
            Some(Part::Text(text)) => text.push(character),
            _ => word.push(Part::Text(character.to_string())),
        }
    }

    fn end_word(&mut self) {
        let Some(word) = self.word.take() else { return };
        let token = match &word[..] {
            [Part::Text(text)] if text == "{" => Token::Open,
            [Part::Text(text)] if text == "}" => Token::Close,
            _ => Token::Word(word),
        };
        self.tokens.push(token);
    }
}

/// The word's text, where it has no variables.
pub fn plain(word: &Word) -> Option<&str> {
    match &word[..] {
        [Part::Text(text)] => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_variables_and_comments_are_told_apart() {
        let text = "set a='b c' # no\nlinux \"$x y\"$z \\\n ${root} {\n}; a#b ''";
        let words: Vec<Token> = tokens(text);
        let text = |text: &str| Part::Text(text.to_owned());
        let variable = |name: &str, quoted| Part::Variable { name: name.to_owned(), quoted };
        assert_eq!(
            words,
            [
                Token::Word(vec![text("set")]),
                Token::Word(vec![text("a=b c")]),
                Token::End,
                Token::Word(vec![text("linux")]),
                Token::Word(vec![variable("x", true), text(" y"), variable("z", false)]),
                Token::Word(vec![variable("root", false)]),
                Token::Open,
                Token::End,
                Token::Close,
                Token::End,
                Token::Word(vec![text("a#b")]),
                Token::Word(vec![]),
                Token::End,
            ]
        );
    }
}
