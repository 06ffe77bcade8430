//! Guards of the tree, read as text: who may name whom, who may wait, how long a file may be, and words
//! that must not stay. A compiler in one package would allow all of it.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "the test reads the tree and stops at the first surprise"
)]

use std::fs;
use std::path::{Path, PathBuf};

/// Rows from the bottom up: a module may name the rows before its own, and not its neighbours.
/// `cli` stands over `server` since it starts it.
const ROWS: &[&[&str]] = &[
    &["base"],
    &["wire"],
    &["proto"],
    &["crypto"],
    &["client", "store"],
    &["shard", "bot"],
    &["server"],
    &["cli"],
    &["bin"],
];

/// Lines of one file, without its tests: beyond this nobody reads it whole.
const LINES_MAX: usize = 800;

/// Where code may wait, read a clock, open a file or a socket.
const MAY_WAIT: &[&str] = &[
    "src/server/",
    "src/cli/",
    "src/bin/",
    "src/client/blocking.rs",
    "src/client/folder.rs",
    "src/store/rocks.rs",
    "src/store/rocks/",
    "src/store/writer.rs",
    "src/store/migrate.rs",
];

/// What waiting looks like. Each is a whole path or a prefix of one.
const WAITING: &[&str] = &[
    "std::fs",
    "std::net::Tcp",
    "std::net::Udp",
    "std::os::fd",
    "std::os::unix",
    "std::process",
    "std::env::var",
    "std::env::args",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
    "SystemTime::now",
    "Instant::now",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "UnixStream",
    "thread::sleep",
    "thread::spawn",
    "File::open",
    "File::create",
    "println!",
    "eprintln!",
    "glommio",
    "rocksdb",
    "rustix",
    "socket2",
    "signal_hook",
];

struct Source {
    /// Relative to the root, with `/`.
    path: String,
    text: String,
    /// Without comments, strings and test modules.
    code: String,
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn files(below: &str, endings: &[&str]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut open = vec![root().join(below)];
    while let Some(folder) = open.pop() {
        let Ok(entries) = fs::read_dir(&folder) else {
            continue;
        };
        for entry in entries {
            let path = entry.unwrap().path();
            if path.is_dir() {
                let skipped = ["target", "corpus", "vectors/data", "__pycache__"];
                if !skipped.iter().any(|name| path.ends_with(name)) {
                    open.push(path);
                }
                continue;
            }
            let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or("");
            if endings.is_empty() || endings.contains(&ending) {
                let name = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
                found.extend(fs::read_to_string(&path).ok().map(|text| (name, text)));
            }
        }
    }
    found.sort();
    found
}

fn sources() -> Vec<Source> {
    let sources: Vec<_> = files("src", &["rs"])
        .into_iter()
        .map(|(path, text)| {
            let code = without_tests(&bare(&text));
            Source { path, text, code }
        })
        .collect();
    assert!(!sources.is_empty(), "no sources found");
    sources
}

/// Blanks out comments, strings and characters, so that words in them do not count; lines stay.
fn bare(text: &str) -> String {
    let letters: Vec<char> = text.chars().collect();
    let at = |index: usize| letters.get(index).copied().unwrap_or('\0');
    let mut out = String::with_capacity(text.len());
    let mut here = 0;
    while here < letters.len() {
        let end = match (at(here), at(here + 1)) {
            ('/', '/') => until(&letters, here, |i| at(i) == '\n'),
            ('/', '*') => block_end(&letters, here),
            ('"', _) => string_end(&letters, here),
            ('r', '"' | '#') if !word_before(&letters, here) => raw_end(&letters, here + 1),
            ('b', 'r') if matches!(at(here + 2), '"' | '#') && !word_before(&letters, here) => {
                raw_end(&letters, here + 2)
            }
            ('\'', '\\') => until(&letters, here + 3, |i| at(i) == '\'') + 1,
            ('\'', _) if at(here + 2) == '\'' => here + 3,
            _ => here,
        };
        if end == here {
            out.push(at(here));
            here += 1;
            continue;
        }
        let end = end.min(letters.len());
        out.push(' ');
        out.extend(letters[here..end].iter().filter(|letter| **letter == '\n'));
        here = end;
    }
    out
}

fn until(letters: &[char], from: usize, stop: impl Fn(usize) -> bool) -> usize {
    (from..letters.len()).find(|index| stop(*index)).unwrap_or(letters.len())
}

fn word_before(letters: &[char], here: usize) -> bool {
    here > 0 && (letters[here - 1].is_alphanumeric() || letters[here - 1] == '_')
}

fn string_end(letters: &[char], start: usize) -> usize {
    let mut here = start + 1;
    while here < letters.len() && letters[here] != '"' {
        here += if letters[here] == '\\' { 2 } else { 1 };
    }
    here + 1
}

/// `from` is at the first `#` or the quote; a raw identifier (`r#type`) is no string.
fn raw_end(letters: &[char], from: usize) -> usize {
    let quote = until(letters, from, |index| letters[index] != '#');
    if letters.get(quote) != Some(&'"') {
        return quote;
    }
    let closing: Vec<char> =
        std::iter::once('"').chain(letters[from..quote].iter().copied()).collect();
    until(letters, quote + 1, |index| letters[index..].starts_with(&closing)) + closing.len()
}

fn block_end(letters: &[char], start: usize) -> usize {
    let mut depth = 0;
    let mut here = start;
    while here < letters.len() {
        if letters[here..].starts_with(&['/', '*']) {
            depth += 1;
            here += 2;
        } else if letters[here..].starts_with(&['*', '/']) {
            depth -= 1;
            here += 2;
            if depth == 0 {
                return here;
            }
        } else {
            here += 1;
        }
    }
    here
}

/// Cuts out each `#[cfg(test)] mod … { … }`, and what else the attribute stands before.
fn without_tests(code: &str) -> String {
    let mut out = String::with_capacity(code.len());
    let mut rest = code;
    while let Some((before, after)) = rest.split_once("#[cfg(test)]") {
        out.push_str(before);
        let body = after.find(['{', ';']).unwrap_or(after.len());
        let end = match after.as_bytes().get(body) {
            Some(b'{') => body + braces(&after[body..]),
            _ => (body + 1).min(after.len()),
        };
        rest = &after[end..];
    }
    out.push_str(rest);
    out
}

/// Length of the text from an opening brace to its closing one.
fn braces(text: &str) -> usize {
    let mut depth = 0;
    for (index, letter) in text.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => continue,
        }
        if depth == 0 {
            return index + 1;
        }
    }
    text.len()
}

fn row_of(module: &str) -> Option<usize> {
    ROWS.iter().position(|row| row.contains(&module))
}

/// The top-level modules that `code` names: by `crate::`, by `dim::` in the binary, or by as many
/// `super::` as lead to the root.
fn named_modules(path: &str, code: &str) -> Vec<String> {
    let mut found = Vec::new();
    let depth = module_depth(path);
    let up = "super::".repeat(depth);
    for prefix in ["crate::", "dim::", &up] {
        for (index, _) in code.match_indices(prefix) {
            let whole =
                !code[..index].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':');
            if whole {
                found.extend(heads(&code[index + prefix.len()..]));
            }
        }
    }
    found
}

/// Modules between the root and the file: `src/a.rs` and `src/a/mod.rs` are one below.
fn module_depth(path: &str) -> usize {
    let parts = path.strip_prefix("src/").unwrap_or(path).split('/').count();
    if path.ends_with("/mod.rs") { parts - 1 } else { parts }
}

/// The first word of a path, or of each path in `{…}`.
fn heads(path: &str) -> Vec<String> {
    let word = |text: &str| -> String {
        text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
    };
    let Some(inner) = path.strip_prefix('{') else {
        return vec![word(path)];
    };
    let inner = &inner[..braces(path).saturating_sub(2)];
    let mut depth = 0;
    let mut heads = Vec::new();
    let mut start = 0;
    for (index, letter) in inner.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                heads.push(word(&inner[start..index]));
                start = index + 1;
            }
            _ => {}
        }
    }
    heads.push(word(&inner[start..]));
    heads
}

fn module_of(path: &str) -> Option<&str> {
    let rest = path.strip_prefix("src/")?;
    let name = rest.split('/').next()?;
    Some(name.strip_suffix(".rs").unwrap_or(name))
}

/// Whether `word` stands in `code` as a whole word or path.
fn names(code: &str, word: &str) -> bool {
    code.match_indices(word)
        .any(|(index, _)| !code[..index].ends_with(|c: char| c.is_alphanumeric() || c == '_'))
}

fn report(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

#[test]
fn a_module_names_only_rows_below_its_own() {
    let mut faults = Vec::new();
    for source in sources() {
        let Some(module) = module_of(&source.path).filter(|module| *module != "lib") else {
            continue;
        };
        let Some(row) = row_of(module) else {
            faults.push(format!("{}: module `{module}` has no row in tests/tidy.rs", source.path));
            continue;
        };
        for named in named_modules(&source.path, &source.code) {
            let allowed = named == module || row_of(&named).is_none_or(|other| other < row);
            if !allowed {
                faults.push(format!("{}: `{module}` must not name `{named}`", source.path));
            }
        }
    }
    report(&faults);
}

#[test]
fn only_the_shell_waits() {
    let mut faults = Vec::new();
    for source in sources() {
        if MAY_WAIT.iter().any(|place| source.path.starts_with(place)) {
            continue;
        }
        for word in WAITING.iter().filter(|word| names(&source.code, word)) {
            faults.push(format!("{}: `{word}` belongs to the shell", source.path));
        }
    }
    report(&faults);
}

#[test]
fn no_file_is_too_long() {
    let mut faults = Vec::new();
    for source in sources() {
        let lines = source.code.lines().filter(|line| !line.trim().is_empty()).count();
        if lines > LINES_MAX {
            faults.push(format!("{}: {lines} lines of code, at most {LINES_MAX}", source.path));
        }
    }
    report(&faults);
}

#[test]
fn every_module_says_what_it_is() {
    let mut faults = Vec::new();
    for source in sources() {
        if !source.text.starts_with("//! ") {
            faults.push(format!("{}: does not begin with `//! ` and a sentence", source.path));
        }
    }
    report(&faults);
}

#[test]
fn nothing_unfinished_stays() {
    let mut faults = Vec::new();
    for source in sources() {
        for word in ["todo!", "unimplemented!", "dbg!"] {
            if names(&source.code, word) {
                faults.push(format!("{}: `{word}`", source.path));
            }
        }
        for word in ["TODO", "FIXME", "XXX"] {
            if names(&source.text, word) {
                faults.push(format!("{}: `{word}`", source.path));
            }
        }
    }
    report(&faults);
}

#[test]
fn no_path_of_a_machine_is_written_down() {
    let own = |path: &str| path.ends_with("tests/tidy.rs");
    let mut faults = Vec::new();
    for folder in ["src", "tests", "benches", "etc", "docs", "fuzz", "loadtest", ".ci"] {
        for (path, text) in files(folder, &[]).iter().filter(|(path, _)| !own(path)) {
            for (line, number) in text.lines().zip(1..) {
                for word in ["work", "home", "root", "Users"].map(|folder| format!("/{folder}/")) {
                    let mut places = line.match_indices(&word);
                    let odd = |(index, _)| {
                        !line[..index].ends_with(|c: char| c.is_alphanumeric() || c == '.')
                    };
                    if places.any(odd) {
                        faults.push(format!("{path}:{number}: `{word}`"));
                    }
                }
            }
        }
    }
    report(&faults);
}

#[test]
fn a_bench_or_fuzz_target_is_named_after_what_it_measures() {
    let mut faults = Vec::new();
    let sources = files("src", &["rs"]);
    for (path, _) in ["benches", "fuzz/fuzz_targets"].iter().flat_map(|f| files(f, &["rs"])) {
        let stem = Path::new(&path).file_stem().unwrap().to_string_lossy().into_owned();
        let (file, folder) = (format!("/{stem}.rs"), format!("/{stem}/"));
        if !sources.iter().any(|(source, _)| source.ends_with(&file) || source.contains(&folder)) {
            faults.push(format!("{path}: no module is called so"));
        }
    }
    report(&faults);
}

#[test]
fn the_table_of_parity_names_tests_that_exist() {
    let mut faults = Vec::new();
    let text = fs::read_to_string(root().join("docs/parity.md")).unwrap();
    let all =
        [files("tests", &["rs", "py"]), files("src", &["rs"]), files("loadtest", &["rs"])].concat();
    let mut rows = Vec::new();
    for line in text.lines().filter(|line| line.starts_with("| ")) {
        let number = line.split('|').nth(1).and_then(|cell| cell.trim().parse::<u32>().ok());
        rows.extend(number);
        for name in line.split('`').skip(1).step_by(2).filter(|name| name.contains("::")) {
            let (place, test) = name.split_once("::").unwrap();
            let elsewhere = ["src/", "loadtest/"].iter().any(|below| place.starts_with(below));
            let place = if elsewhere { place } else { &format!("tests/{place}") };
            let found = all.iter().any(|(path, text)| {
                let rest = path.strip_prefix(place).unwrap_or_default();
                let here = matches!(rest, ".rs" | ".py") || rest.starts_with('/');
                here && [format!("fn {test}("), format!("def {test}(")]
                    .iter()
                    .any(|definition| text.contains(definition.as_str()))
            });
            if !found {
                faults.push(format!("docs/parity.md: there is no test {name}"));
            }
        }
    }
    assert_eq!(rows.iter().filter(|row| **row == 121).count(), 1, "all rows are there");
    report(&faults);
}

#[test]
fn the_guards_see_what_they_should() {
    let code = bare(concat!(
        "use crate::{base::x, shard::{a, b}, wire}; // crate::server\n",
        "let s = \"crate::cli\"; let r = r#\"crate::bin \" dbg!\"#; let c = '\"';\n",
        "/* a /* crate::bot */ crate::store */ fn f<'a>(x: &'a str) { super::super::client::y() }\n",
        "let q = '\\''; let r#type = 1; thread::sleep(d);\n",
    ));
    assert_eq!(named_modules("src/proto/a.rs", &code), ["base", "shard", "wire", "client"]);
    assert!(named_modules("src/proto/mod.rs", &code).contains(&"client".to_owned()).eq(&false));
    assert!(names(&code, "thread::sleep") && !names(&code, "dbg!"));
    assert_eq!(code.lines().count(), 4);

    let cut =
        without_tests("a\n#[cfg(test)]\nmod tests { fn f() { { } } }\nb\n#[cfg(test)]\nuse x;\nc");
    assert_eq!(cut.split_whitespace().collect::<Vec<_>>(), ["a", "b", "c"]);
    assert!(names("std::fs::read", "std::fs") && !names("my_std::fs", "std::fs"));
    assert_eq!(module_of("src/wire/mars.rs"), Some("wire"));
    assert_eq!(module_depth("src/wire/mod.rs"), 1);
    assert_eq!(row_of("server").unwrap() + 1, row_of("cli").unwrap());
}
