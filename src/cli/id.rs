//! `dims id`: accounts as files. What the reference's tool asks is asked here with the same words, so
//! that scripts which answer it go on working; with flags nothing is asked.

mod generate;
mod modify;
mod prompt;
mod show;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Map, Value};

use super::Refusal;
use super::args::PlaceArgs;
use crate::base::limits::RSA_PADDING_BYTES;
use crate::client::folder::Folder;
use crate::crypto::key::{OpenKey, SealKey, VerifyKey};
use crate::proto::address::EntityKind;
use crate::proto::id::Id;
use crate::server::config::Config;
use crate::server::identity::folder_of;

/// Read after the actions.
const NOTES: &str = "\
Accounts are files below the data folder (public/, private/), as the reference keeps them.
Private keys are readable by their owner only, and are never shown.";

#[derive(Debug, Args)]
#[command(after_help = NOTES)]
pub(super) struct IdArgs {
    #[command(flatten)]
    place: PlaceArgs,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make an account; without a type, ask for everything
    #[command(after_help = generate::NOTES)]
    Generate(generate::GenerateArgs),
    /// Change what an account says of itself; without a flag, ask for everything
    Modify(modify::ModifyArgs),
    /// Show an account: what is public, whether it proves itself, which keys are there
    Show {
        /// An ID, or the address in it
        id: String,
    },
    /// List the accounts, a line each
    List,
}

pub(super) fn id(args: &IdArgs) -> Result<(), Refusal> {
    let folder = folder_of(&Config::load(&(&args.place).into())?.config);
    match &args.action {
        Action::Generate(args) => generate::generate(&folder, args),
        Action::Modify(args) => modify::modify(&folder, args),
        Action::Show { id } => show::show(&folder, id),
        Action::List => show::list(&folder),
    }
}

/// What an account says of itself.
#[derive(Debug, Default, PartialEq, Args)]
struct PropertyArgs {
    /// Its name, for people
    #[arg(long)]
    name: Option<String>,
    /// URL of a picture (not for groups)
    #[arg(long, value_name = "URL")]
    avatar: Option<String>,
    /// Host name or address that clients are told (stations)
    #[arg(long)]
    host: Option<String>,
    /// Port that clients are told (stations)
    #[arg(long)]
    port: Option<u16>,
    /// Who else may direct it (groups)
    #[arg(long, value_name = "ID")]
    administrator: Option<String>,
    /// Who owns it (groups)
    #[arg(long, value_name = "ID")]
    owner: Option<String>,
}

impl PropertyArgs {
    /// The properties that were given, in the order of the flags. Refuses what such an entity does
    /// not have, and IDs that are none.
    fn given(&self, kind: EntityKind) -> Result<Vec<(&'static str, Value)>, Refusal> {
        let station = kind == EntityKind::Station;
        let text = |value: &Option<String>| value.clone().map(Value::from);
        let mut given = Vec::new();
        for (name, value, fits) in [
            ("name", text(&self.name), true),
            ("avatar", text(&self.avatar), kind.is_user()),
            ("host", text(&self.host), station),
            ("port", self.port.map(Value::from), station),
            ("administrator", text(&self.administrator), kind.is_group()),
            ("owner", text(&self.owner), kind.is_group()),
        ] {
            let Some(value) = value else { continue };
            if !fits {
                return Err(Refusal::usage(format!("a {} has no --{name}", name_of(kind))));
            }
            if let ("administrator" | "owner", Some(id)) = (name, value.as_str()) {
                parse_id(id)?;
            }
            given.push((name, value));
        }
        Ok(given)
    }
}

/// Size of a new message key.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum MessageKey {
    #[value(name = "1024")]
    Rsa1024,
    #[value(name = "2048")]
    Rsa2048,
    #[value(name = "3072")]
    Rsa3072,
    #[value(name = "4096")]
    Rsa4096,
}

impl MessageKey {
    fn generate(self) -> Result<OpenKey, Refusal> {
        let bits = match self {
            Self::Rsa1024 => 1024,
            Self::Rsa2048 => 2048,
            Self::Rsa3072 => 3072,
            Self::Rsa4096 => 4096,
        };
        OpenKey::generate(bits).map_err(Refusal::here)
    }
}

/// A property that the reference's tool asks for: its name, what the question calls it, the answer
/// when there is none yet.
struct Field {
    name: &'static str,
    called: &'static str,
    default: &'static str,
    is_number: bool,
}

const fn field(name: &'static str, called: &'static str, default: &'static str) -> Field {
    Field { name, called, default, is_number: false }
}

const USER: &[Field] =
    &[field("name", "user name", "Satoshi Nakamoto"), field("avatar", "avatar url", "")];
const BOT: &[Field] =
    &[field("name", "bot name", "Service Bot"), field("avatar", "avatar url", "")];
const GROUP: &[Field] =
    &[field("name", "group name", "Group Chat"), field("administrator", "group admin", "")];
const STATION: &[Field] = &[
    field("name", "station name", "Base Station"),
    field("host", "station host", "127.0.0.1"),
    Field { name: "port", called: "station port", default: "9394", is_number: true },
];

/// The questions by kind, in the reference's order and words.
const fn fields(kind: EntityKind) -> &'static [Field] {
    match kind {
        EntityKind::Station => STATION,
        EntityKind::Bot => BOT,
        _ if kind.is_group() => GROUP,
        _ => USER,
    }
}

/// What an entity is called in a sentence.
const fn name_of(kind: EntityKind) -> &'static str {
    match kind {
        EntityKind::User => "user",
        EntityKind::Group => "group",
        EntityKind::Station => "station",
        EntityKind::Provider => "service provider",
        EntityKind::Bot => "bot",
        EntityKind::ContentProvider => "content provider",
        EntityKind::Chatroom => "chatroom",
        EntityKind::AnyUser | EntityKind::AnyGroup => "broadcast",
        EntityKind::Other(_) => "thing",
    }
}

/// An ID that somebody can have.
fn parse_id(text: &str) -> Result<Id, Refusal> {
    match Id::parse(text) {
        Ok(id) if !id.is_broadcast() => Ok(id.naked()),
        _ => Err(Refusal::here(format!("\"{}\" is not the ID of an account", text.escape_debug()))),
    }
}

/// An account that must be here.
fn known(folder: &Folder, text: &str) -> Result<Id, Refusal> {
    let id = parse_id(text)?;
    match folder.meta(&id)? {
        Some(meta) => Ok(meta.id().clone()),
        None => Err(Refusal::here(format!(
            "{id} is not known here: there is no {}",
            folder.meta_path(&id).display()
        ))),
    }
}

/// The algorithm of a public key object, and of RSA the size.
fn describe(key: &Map<String, Value>) -> String {
    match (VerifyKey::from_map(key), SealKey::from_map(key)) {
        (Ok(VerifyKey::Ecc(_)), _) => "ECC".to_owned(),
        (_, Ok(key)) => format!("RSA-{}", 8 * (key.plain_bytes_max() + RSA_PADDING_BYTES)),
        _ => "unusable".to_owned(),
    }
}
