//! What a text may look like before it is parsed.
//!
//! The parser tries each `[` and `{` first as a comprehension and then as a literal, so that a term in the n-th bracket is
//! read 2^n times; and what it makes of operators is as deep as they are many. Both are counted here on the interpreter's own
//! tokens, so that no text is counted otherwise than it is read.

use regorus::unstable::{Lexer, Source, TokenKind};

use super::LENGTH;

/// Readings of terms in `[` and `{`: a term fifteen deep, or a table of 8,000 rows with lists in them.
const MAX_READINGS: u64 = 1 << 16;

/// Brackets of all kinds in each other.
const MAX_NESTING: usize = 64;

/// Signs in front of one term.
const MAX_SIGNS: usize = 8;

/// Operators and members (`a.b`) of a text: as many could be one in the other.
const MAX_OPERATORS: usize = 1 << 15;

/// Refuses a text that the parser would take too long for, or too much stack.
///
/// # Errors
/// A sentence for the policy's author.
pub fn check(text: &str) -> Result<(), String> {
    let reason = |error| format!("{error:#}");
    let (bytes, lines) = (LENGTH.max_file_bytes, LENGTH.max_lines);
    let source = Source::from_contents_with_limits("policy.rego".to_owned(), text.to_owned(), bytes, lines)
        .map_err(reason)?;
    let mut lexer = Lexer::new(&source);
    lexer.set_max_col(LENGTH.max_col);
    let (mut open, mut readings, mut signs, mut operators) = (Vec::new(), 0_u64, 0, 0);
    loop {
        let token = lexer.next_token().map_err(reason)?;
        let (kind, place) = (&token.0, &token.1);
        let word = match kind {
            TokenKind::Eof => break,
            TokenKind::Symbol | TokenKind::Ident => place.text(),
            TokenKind::String | TokenKind::RawString | TokenKind::Number => "",
        };
        let refused = |what: String| Err(place.error(&what).to_string());
        signs = if word == "-" { signs + 1 } else { 0 };
        match word {
            "(" | "set(" => open.push(")"),
            "[" | "{" => {
                let literals = open.iter().filter(|closing| **closing != ")").count();
                readings += 2 << literals;
                operators += usize::from(word == "[");
                open.push(if word == "[" { "]" } else { "}" });
            }
            ")" | "]" | "}" if open.pop() != Some(word) => {
                return refused(format!("`{word}` closes nothing"));
            }
            "+" | "-" | "*" | "/" | "%" | "&" | "|" | "." | "in" | "==" | "!=" | "<" | "<=" | ">" | ">=" => {
                operators += 1;
            }
            _ => {}
        }
        if open.len() > MAX_NESTING {
            return refused(format!(
                "more than {MAX_NESTING} brackets are in each other; make rules of inner ones"
            ));
        }
        if readings > MAX_READINGS {
            return refused(
                "terms in `[` and `{` are nested too deeply; make rules of inner ones".to_owned(),
            );
        }
        if signs > MAX_SIGNS {
            return refused(format!("more than {MAX_SIGNS} signs are in a row"));
        }
        if operators > MAX_OPERATORS {
            return refused(format!(
                "the text has more than {MAX_OPERATORS} operators and members; keep tables in reference values"
            ));
        }
    }
    Ok(())
}
