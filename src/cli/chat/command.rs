//! What can be typed: a line that begins with `/` is a command, any other is said to whom one
//! talks with.

/// Longest line that is taken, in bytes.
pub(super) const LINE_BYTES_MAX: usize = 64 << 10;

/// Patience of `/wait` when none is given, in seconds.
const WAIT_S: u64 = 30;
/// The longest that may be asked for: a day.
const WAIT_S_MAX: u64 = 24 * 3600;
/// Lines that `/history` shows when no number is given, and at most.
const HISTORY_LINES: usize = 20;
const HISTORY_LINES_MAX: usize = 10_000;

/// Each command with its arguments and what it does, in the order of `/help`.
pub(super) const COMMANDS: &[(&str, &str, &str)] = &[
    ("to", "WHO", "talk with WHO: a name, an ID, a group, a short name of the station"),
    ("send", "TEXT", "say TEXT; the same as a line without a slash (// begins a text with /)"),
    ("file", "PATH", "send a file"),
    ("history", "[N]", "the last lines of this conversation"),
    ("call", "WHO", "talk with WHO, and show the profile"),
    ("profile", "[WHO]", "what WHO says of itself, asked anew"),
    ("contacts", "", "whom you know"),
    ("nick", "WHO NAME", "call WHO by a NAME of your own"),
    ("users", "", "who is online, asked of the station's archivist"),
    ("search", "WORDS", "look for users, asked of the station's archivist"),
    ("group", "new NAME MEMBER…", "found a group"),
    ("group", "invite GROUP MEMBER…", "add members; who does not own it only proposes them"),
    ("group", "expel GROUP MEMBER…", "take members out of your group"),
    ("group", "quit GROUP", "leave a group"),
    ("group", "members [GROUP]", "who is in it"),
    ("group", "assistant GROUP BOT", "have a bot pass on what is said in your group"),
    ("group", "send GROUP TEXT", "say TEXT to the group"),
    ("block", "[WHO]", "hear no more of WHO, or list those; /unblock WHO ends it"),
    ("mute", "[WHO]", "have no device woken by WHO, or list those; /unmute WHO ends it"),
    ("name", "NEW", "change your name, and tell it"),
    ("login", "WHO", "go on as another account of this folder; a new name makes one"),
    ("hello", "", "shake hands with the station again"),
    ("station", "", "which station this is, and what waits for it"),
    ("offline", "", "take no messages for a while; /online takes them again"),
    ("wait", "[SECONDS] login", "go on when logged in"),
    ("wait", "[SECONDS] receipts", "go on when all that was sent is answered by the station"),
    ("wait", "[SECONDS] TEXT", "go on when an event with TEXT has come since the last /wait"),
    ("help", "", "this"),
    ("exit", "", "leave"),
];

/// Those that end what another one began; not in the list of `/help`.
pub(super) const OPPOSITES: [&str; 3] = ["unblock", "unmute", "online"];

/// What is waited for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Until<'a> {
    Login,
    Receipts,
    Text(&'a str),
}

/// One line, understood.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Command<'a> {
    Nothing,
    Say(&'a str),
    To(&'a str),
    File(&'a str),
    History(usize),
    Call(&'a str),
    Profile(Option<&'a str>),
    Contacts,
    Nick { who: &'a str, name: &'a str },
    Users,
    Search(&'a str),
    Found { name: &'a str, members: Vec<&'a str> },
    Invite { group: &'a str, members: Vec<&'a str> },
    Expel { group: &'a str, members: Vec<&'a str> },
    Quit(&'a str),
    Members(Option<&'a str>),
    Assist { group: &'a str, bot: &'a str },
    SayIn { group: &'a str, text: &'a str },
    Lists { mute: bool },
    List { mute: bool, add: bool, who: &'a str },
    Name(&'a str),
    Login(&'a str),
    Hello,
    Station,
    Report { online: bool },
    Wait { until: Until<'a>, seconds: u64 },
    Help,
    Exit,
}

/// Takes a line apart. An error says what the command wants.
pub(super) fn parse(line: &str) -> Result<Command<'_>, String> {
    let line = line.trim();
    if let Some(text) = line.strip_prefix("//") {
        return Ok(Command::Say(line.get(1..).unwrap_or(text)));
    }
    let Some(line) = line.strip_prefix('/') else {
        return Ok(if line.is_empty() { Command::Nothing } else { Command::Say(line) });
    };
    let (name, rest) = first_word(line);
    let one = || one_of(name, rest);
    let optional = || if rest.is_empty() { Ok(None) } else { one().map(Some) };
    Ok(match name {
        "to" => Command::To(one()?),
        "send" if !rest.is_empty() => Command::Say(rest),
        "file" if !rest.is_empty() => Command::File(rest),
        "history" if rest.is_empty() => Command::History(HISTORY_LINES),
        "history" => match rest.parse() {
            Ok(count @ 1..=HISTORY_LINES_MAX) => Command::History(count),
            _ => return Err(format!("/history takes a number from 1 to {HISTORY_LINES_MAX}")),
        },
        "call" => Command::Call(one()?),
        "profile" => Command::Profile(optional()?),
        "nick" => match first_word(rest) {
            (who, name) if !who.is_empty() && !name.is_empty() => Command::Nick { who, name },
            _ => return Err(usage("nick")),
        },
        "search" if !rest.is_empty() => Command::Search(rest),
        "group" => group(rest)?,
        "block" | "mute" if rest.is_empty() => Command::Lists { mute: name == "mute" },
        "block" | "mute" | "unblock" | "unmute" => Command::List {
            mute: name.ends_with("mute"),
            add: !name.starts_with("un"),
            who: one()?,
        },
        "name" if !rest.is_empty() => Command::Name(rest),
        "login" if !rest.is_empty() => Command::Login(rest),
        "wait" => wait(rest)?,
        "contacts" | "users" | "hello" | "station" | "offline" | "online" | "help" | "exit"
        | "quit" => bare(name, rest)?,
        _ if COMMANDS.iter().any(|(known, ..)| *known == name) => return Err(usage(name)),
        _ => return Err(format!("there is no command /{name}; /help lists them")),
    })
}

fn bare<'a>(name: &str, rest: &str) -> Result<Command<'a>, String> {
    if !rest.is_empty() {
        return Err(format!("/{name} takes nothing more"));
    }
    Ok(match name {
        "contacts" => Command::Contacts,
        "users" => Command::Users,
        "hello" => Command::Hello,
        "station" => Command::Station,
        "offline" | "online" => Command::Report { online: name == "online" },
        "help" => Command::Help,
        _ => Command::Exit,
    })
}

fn group(rest: &str) -> Result<Command<'_>, String> {
    let (action, rest) = first_word(rest);
    let (group, more) = first_word(rest);
    let members = || more.split_whitespace().collect::<Vec<_>>();
    Ok(match action {
        "new" if !more.is_empty() => Command::Found { name: group, members: members() },
        "invite" if !more.is_empty() => Command::Invite { group, members: members() },
        "expel" if !more.is_empty() => Command::Expel { group, members: members() },
        "quit" if !group.is_empty() && more.is_empty() => Command::Quit(group),
        "assistant" if !more.is_empty() => Command::Assist { group, bot: one_of(action, more)? },
        "members" if group.is_empty() => Command::Members(None),
        "members" if more.is_empty() => Command::Members(Some(group)),
        "send" if !more.is_empty() => Command::SayIn { group, text: more },
        _ => return Err(usage("group")),
    })
}

fn wait(rest: &str) -> Result<Command<'_>, String> {
    let (first, more) = first_word(rest);
    let (seconds, what) = match first.parse() {
        Ok(seconds) => (seconds, more),
        Err(_) => (WAIT_S, rest),
    };
    let until = match what {
        "" => return Err(usage("wait")),
        "login" => Until::Login,
        "receipts" => Until::Receipts,
        text => Until::Text(text),
    };
    if seconds > WAIT_S_MAX {
        return Err(format!("/wait takes at most {WAIT_S_MAX} seconds"));
    }
    Ok(Command::Wait { until, seconds })
}

fn usage(name: &str) -> String {
    let all = COMMANDS.iter().filter(|(known, ..)| *known == name);
    let forms: Vec<String> =
        all.map(|(name, args, _)| format!("/{name} {args}").trim().to_owned()).collect();
    format!("usage: {}", forms.join(", "))
}

fn one_of<'a>(name: &str, rest: &'a str) -> Result<&'a str, String> {
    let (word, more) = first_word(rest);
    match (word.is_empty(), more.is_empty()) {
        (false, true) => Ok(word),
        (true, _) => Err(format!("/{name} needs a name or an ID")),
        (_, false) => Err(format!("/{name} takes one name or ID; what has blanks goes by its ID")),
    }
}

fn first_word(text: &str) -> (&str, &str) {
    let text = text.trim_start();
    let end = text.find(char::is_whitespace).unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    (word, rest.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slash_begins_a_command_and_two_a_text() {
        assert_eq!(parse(" hello, you "), Ok(Command::Say("hello, you")));
        assert_eq!(parse("//etc is a folder"), Ok(Command::Say("/etc is a folder")));
        assert_eq!(parse("/to Bob"), Ok(Command::To("Bob")));
        assert_eq!(parse("  "), Ok(Command::Nothing));
        let long = Command::Wait { until: Until::Text("see you"), seconds: 5 };
        assert_eq!(parse("/wait 5 see you"), Ok(long));
        let plain = Command::Wait { until: Until::Receipts, seconds: WAIT_S };
        assert_eq!(parse("/wait receipts"), Ok(plain));
    }

    #[test]
    fn each_command_is_known_and_says_what_it_wants() {
        for (name, ..) in COMMANDS {
            let told = parse(&format!("/{name}")).err();
            assert!(told.is_none_or(|said| !said.contains("no command")), "{name}");
        }
        for name in OPPOSITES {
            assert!(parse(&format!("/{name} Bob")).err().is_none_or(|said| !said.contains("no c")));
        }
        assert!(parse("/group").unwrap_err().contains("/group new NAME MEMBER…"));
        assert!(parse("/dance").unwrap_err().contains("/help"));
        assert!(parse("/to").is_err() && parse("/to a b").is_err() && parse("/exit now").is_err());
        assert!(parse("/history 0").is_err() && parse("/wait 99999999 x").is_err());
    }
}
