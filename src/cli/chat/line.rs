//! Where lines come from: a terminal with an editor, or a pipe. Each has a thread, which hands over
//! one line and waits until that is done.

use std::io::{self, BufRead, Read, Write};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::MemHistory;
use rustyline::validate::Validator;
use rustyline::{Config, Context, Editor, ExternalPrinter, Helper};

use super::Happened;
use super::command::{COMMANDS, LINE_BYTES_MAX, OPPOSITES};
use super::said::{Form, Said};

/// Lines that the editor offers again.
const LINES_KEPT_MAX: usize = 1000;

/// File names that are offered for completion.
const NAMES_MAX: usize = 256;

/// Where events go.
pub(super) enum Out {
    /// Above the line that is being typed.
    Above(Box<dyn ExternalPrinter + Send>, Words),
    Pipe(Form),
}

impl Out {
    /// Prints an event; whether somebody is there to read it.
    pub(super) fn print(&mut self, said: &Said) -> bool {
        match self {
            Self::Above(printer, _) => printer.print(said.line(Form::Screen) + "\n").is_ok(),
            Self::Pipe(form) => {
                let mut out = io::stdout().lock();
                writeln!(out, "{}", said.line(*form)).and_then(|()| out.flush()).is_ok()
            }
        }
    }

    /// Completes to these words from now on.
    pub(super) fn complete(&self, words: impl FnOnce() -> Vec<String>) {
        if let Self::Above(_, known) = self {
            *known.0.lock().unwrap_or_else(PoisonError::into_inner) = words();
        }
    }
}

/// Reads lines from standard input, as many as are asked for.
pub(super) fn read_pipe(tell: SyncSender<Happened>, next: Receiver<String>) -> io::Result<()> {
    thread::Builder::new().name("dim-lines".to_owned()).spawn(move || {
        let mut input = io::stdin().lock();
        while next.recv().is_ok() {
            let happened = match read_line(&mut input) {
                Ok(Some(line)) => Happened::Line(line),
                Ok(None) | Err(_) => Happened::End,
            };
            let over = matches!(happened, Happened::End);
            if tell.send(happened).is_err() || over {
                return;
            }
        }
    })?;
    Ok(())
}

/// A line without its end, or why it cannot be taken; none at the end of the input.
fn read_line(input: &mut impl BufRead) -> io::Result<Option<Result<String, String>>> {
    let mut bytes = Vec::new();
    let limit = LINE_BYTES_MAX as u64 + 1;
    if Read::take(&mut *input, limit).read_until(b'\n', &mut bytes)? == 0 {
        return Ok(None);
    }
    if bytes.len() > LINE_BYTES_MAX && !bytes.ends_with(b"\n") {
        // The rest belongs to the same line.
        input.skip_until(b'\n')?;
        return Ok(Some(Err(format!("a line has at most {LINE_BYTES_MAX} bytes"))));
    }
    Ok(Some(String::from_utf8(bytes).map_err(|_| "a line has to be UTF-8".to_owned())))
}

/// Reads lines at a terminal, each with the prompt that comes; yields what prints above them.
pub(super) fn read_terminal(
    tell: SyncSender<Happened>,
    next: Receiver<String>,
) -> Result<Out, ReadlineError> {
    let config = Config::builder().max_history_size(LINES_KEPT_MAX)?.build();
    let history = MemHistory::with_config(&config);
    let mut editor: Editor<Words, MemHistory> = Editor::with_history(config, history)?;
    let words = Words::default();
    editor.set_helper(Some(words.clone()));
    let printer = editor.create_external_printer()?;
    thread::Builder::new().name("dim-lines".to_owned()).spawn(move || {
        while let Ok(prompt) = next.recv() {
            let happened = match editor.readline(&prompt) {
                Ok(line) if line.len() > LINE_BYTES_MAX => {
                    Happened::Line(Err(format!("a line has at most {LINE_BYTES_MAX} bytes")))
                }
                Ok(line) => {
                    // A line that cannot be offered again is no loss.
                    let _ = editor.add_history_entry(&line);
                    Happened::Line(Ok(line))
                }
                Err(ReadlineError::Interrupted) => Happened::Interrupt,
                Err(_) => Happened::End,
            };
            if tell.send(happened).is_err() {
                return;
            }
        }
    })?;
    Ok(Out::Above(Box::new(printer), words))
}

/// What a word may be completed to.
#[derive(Clone, Default)]
pub(super) struct Words(Arc<Mutex<Vec<String>>>);

impl Completer for Words {
    type Candidate = String;

    fn complete(
        &self,
        line: &str,
        at: usize,
        _: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<String>)> {
        let before = line.get(..at).unwrap_or_default();
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(candidates(before, &known))
    }
}

impl Hinter for Words {
    type Hint = String;
}

impl Highlighter for Words {}
impl Validator for Words {}
impl Helper for Words {}

/// Where the word before the cursor begins, and what it may become.
fn candidates(before: &str, known: &[String]) -> (usize, Vec<String>) {
    let path = before.strip_prefix("/file ").map(str::trim_start);
    if let Some(path) = path {
        return (before.len() - path.len(), paths(path));
    }
    let start = before.rfind(char::is_whitespace).map_or(0, |blank| blank + 1);
    let word = before.get(start..).unwrap_or_default();
    let commands = COMMANDS.iter().map(|(name, ..)| *name).chain(OPPOSITES);
    let mut found: Vec<String> = match before.split_whitespace().next() {
        _ if start == 0 => commands.map(|name| format!("/{name} ")).collect(),
        Some("/group") if before.split_whitespace().count() <= 2 - usize::from(word.is_empty()) => {
            ["new", "invite", "expel", "quit", "members", "send"].map(|it| format!("{it} ")).into()
        }
        Some(first) if first.starts_with('/') => known.iter().map(|it| format!("{it} ")).collect(),
        _ => Vec::new(),
    };
    found.retain(|it| it.starts_with(word) && (start > 0 || !word.is_empty()));
    found.sort();
    found.dedup();
    (start, found)
}

fn paths(typed: &str) -> Vec<String> {
    let (folder, name) = match typed.rfind('/') {
        Some(slash) => typed.split_at(slash + 1),
        None => ("", typed),
    };
    let place = if folder.is_empty() { Path::new(".") } else { Path::new(folder) };
    let entries = std::fs::read_dir(place).into_iter().flatten().flatten();
    let mut found: Vec<String> = entries
        .filter_map(|entry| {
            let found = entry.file_name().into_string().ok()?;
            let slash = if entry.path().is_dir() { "/" } else { "" };
            let hidden = found.starts_with('.') && !name.starts_with('.');
            (found.starts_with(name) && !hidden).then(|| format!("{folder}{found}{slash}"))
        })
        .take(NAMES_MAX)
        .collect();
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_names_and_paths_are_completed() {
        let known = ["Bob".to_owned(), "Bert".to_owned()];
        assert_eq!(candidates("/hel", &known), (0, vec!["/hello ".into(), "/help ".into()]));
        assert_eq!(candidates("/to Bo", &known), (4, vec!["Bob ".into()]));
        assert_eq!(candidates("/group in", &known), (7, vec!["invite ".into()]));
        assert_eq!(candidates("/group invite B", &known).1, ["Bert ", "Bob "]);
        assert!(candidates("Bo", &known).1.is_empty());
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("cat.png"), "").unwrap();
        std::fs::create_dir(folder.path().join("cats")).unwrap();
        let typed = format!("/file {}/ca", folder.path().display());
        let (start, found) = candidates(&typed, &known);
        assert_eq!((start, found.len()), (6, 2));
        assert!(found[0].ends_with("/cat.png") && found[1].ends_with("/cats/"));
    }

    #[test]
    fn a_line_that_is_too_long_or_no_text_is_refused_and_the_next_one_read() {
        let long = "x".repeat(LINE_BYTES_MAX + 10);
        let input = [long.as_bytes(), b"\n\xff\n/help\nlast"].concat();
        let mut input = &input[..];
        assert!(read_line(&mut input).unwrap().unwrap().is_err());
        assert!(read_line(&mut input).unwrap().unwrap().is_err());
        assert_eq!(read_line(&mut input).unwrap(), Some(Ok("/help\n".to_owned())));
        assert_eq!(read_line(&mut input).unwrap(), Some(Ok("last".to_owned())));
        assert_eq!(read_line(&mut input).unwrap(), None);
    }
}
