//! Commands of GRUB's script language, as a tree.

use std::rc::Rc;

use super::lexer::{Token, Word, plain, tokens};

/// Deepest nesting that is read.
const MAX_DEPTH: usize = 32;

/// Commands, one after the other.
pub type Script = Rc<[Statement]>;

/// One command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Statement {
    /// A command with its arguments.
    Command(Vec<Word>),
    /// Conditions with what is done where one holds, and what is done where none does.
    If(Vec<(Script, Script)>, Script),
    /// An entry of the menu, or a menu inside of it.
    Entry {
        /// Whether it is a menu.
        menu: bool,
        /// Title and options.
        words: Vec<Word>,
        /// What it does.
        body: Script,
    },
}

/// Reads a script. Functions and loops are left out: what `grub-mkconfig` writes has none that bear on what is booted.
/// What cannot be understood ends the script.
pub fn parse(text: &str) -> Script {
    let tokens = tokens(text);
    let mut parser = Parser { tokens: &tokens, at: 0 };
    let mut statements = Vec::new();
    while parser.at < parser.tokens.len() {
        statements.extend(parser.list(&[], 0).unwrap_or_default());
        // A stray end of something.
        parser.at += 1;
    }
    statements.into()
}

struct Parser<'a> {
    tokens: &'a [Token],
    at: usize,
}

impl Parser<'_> {
    /// Commands up to one of the `ends`, or `}`, which is not taken.
    fn list(&mut self, ends: &[&str], depth: usize) -> Option<Vec<Statement>> {
        if depth > MAX_DEPTH {
            self.at = self.tokens.len();
            return None;
        }
        let mut statements = Vec::new();
        loop {
            match self.tokens.get(self.at) {
                None | Some(Token::Close) => return Some(statements),
                Some(Token::End | Token::Open) => self.at += 1,
                Some(Token::Word(word)) => {
                    if plain(word).is_some_and(|word| ends.contains(&word)) {
                        return Some(statements);
                    }
                    statements.extend(self.statement(depth)?);
                }
            }
        }
    }

    fn statement(&mut self, depth: usize) -> Option<Option<Statement>> {
        let Some(Token::Word(word)) = self.tokens.get(self.at) else { return Some(None) };
        match plain(word) {
            Some("if") => self.conditional(depth).map(Some),
            Some(kind @ ("menuentry" | "submenu")) => {
                let menu = kind == "submenu";
                self.at += 1;
                let words = self.words();
                let body = self.block(depth)?;
                Some(Some(Statement::Entry { menu, words, body }))
            }
            Some("function") => {
                self.at += 1;
                self.words();
                self.block(depth)?;
                Some(None)
            }
            Some("for" | "while" | "until") => {
                self.at += 1;
                self.list(&["done"], depth + 1)?;
                self.at += 1;
                Some(None)
            }
            _ => Some(Some(Statement::Command(self.words()))),
        }
    }

    fn words(&mut self) -> Vec<Word> {
        let mut words = Vec::new();
        while let Some(Token::Word(word)) = self.tokens.get(self.at) {
            words.push(word.clone());
            self.at += 1;
        }
        words
    }

    fn block(&mut self, depth: usize) -> Option<Script> {
        while self.tokens.get(self.at) == Some(&Token::End) {
            self.at += 1;
        }
        if self.tokens.get(self.at) != Some(&Token::Open) {
            return Some(Script::default());
        }
        self.at += 1;
        let statements = self.list(&[], depth + 1)?;
        self.at += 1;
        Some(statements.into())
    }

    fn conditional(&mut self, depth: usize) -> Option<Statement> {
        let mut branches = Vec::new();
        loop {
            // Past `if` or `elif`.
            self.at += 1;
            let condition = self.list(&["then"], depth + 1)?;
            self.at += 1;
            let done = self.list(&["elif", "else", "fi"], depth + 1)?;
            branches.push((condition.into(), done.into()));
            let word = match self.tokens.get(self.at) {
                Some(Token::Word(word)) => plain(word),
                _ => None,
            };
            match word {
                Some("elif") => {}
                Some("else") => {
                    self.at += 1;
                    let otherwise = self.list(&["fi"], depth + 1)?;
                    self.at += 1;
                    return Some(Statement::If(branches, otherwise.into()));
                }
                _ => {
                    self.at += 1;
                    return Some(Statement::If(branches, Script::default()));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        fn show(script: &Script, out: &mut String) {
            for statement in script.iter() {
                match statement {
                    Statement::Command(words) => {
                        let words: Vec<_> = words.iter().map(|word| plain(word).unwrap_or("?")).collect();
                        out.push_str(&words.join(" "));
                        out.push(';');
                    }
                    Statement::If(branches, otherwise) => {
                        for (condition, done) in branches {
                            out.push_str("if(");
                            show(condition, out);
                            out.push_str("){");
                            show(done, out);
                            out.push('}');
                        }
                        out.push_str("else{");
                        show(otherwise, out);
                        out.push('}');
                    }
                    Statement::Entry { menu, body, .. } => {
                        out.push_str(if *menu { "menu{" } else { "entry{" });
                        show(body, out);
                        out.push('}');
                    }
                }
            }
        }
        let mut out = String::new();
        show(&parse(text), &mut out);
        out
    }

    #[test]
    fn commands_become_a_tree() {
        let text = "if [ a ] ; then\n b\nelif c; then d; else e\nfi\nfunction f { if x; then y; fi }\nmenuentry t {\n l\n}\nsubmenu s { menuentry u { m; } }\nz";
        assert_eq!(shown(text), "if([ a ];){b;}if(c;){d;}else{e;}entry{l;}menu{entry{m;}}z;");
    }

    #[test]
    fn what_never_closes_ends() {
        for text in ["if a; then b", "menuentry a {", "} } fi done a", "if ", "{ { {"] {
            shown(text);
        }
        shown(&"if a; then ".repeat(10_000));
        shown(&"menuentry a { ".repeat(10_000));
    }
}
