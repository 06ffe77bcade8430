//! `dims id generate`: a new account, by flags or by questions.

use aws_lc_rs::rand;
use clap::{Args, ValueEnum};
use serde_json::{Map, Value};

use super::super::{Refusal, now_s, say};
use super::prompt::Prompt;
use super::{Field, MessageKey, PropertyArgs, fields, parse_id};
use crate::client::account::Account;
use crate::client::folder::Folder;
use crate::crypto::error::CryptoError;
use crate::crypto::key::SignKey;
use crate::proto::address::EntityKind;
use crate::proto::error::ProtoError;
use crate::proto::id::Id;
use crate::proto::meta::MetaKind;

/// Read after the flags.
pub(super) const NOTES: &str = "\
A user has an ETH address and no name in its ID, unless --seed or --meta says otherwise. Every other
type has a name in its ID: `seed@address`. A group (and an ISP or ICP) is signed for by its founder,
whose private key must be here.

  dims id generate STATION --seed=gsp-s001 --host=dim.example.com
  dims id generate USER --name=Alice
  dims id generate GROUP --founder=ID --name='Our group'";

#[derive(Debug, Args)]
pub(super) struct GenerateArgs {
    /// What it is; without it everything is asked for
    #[arg(value_name = "TYPE", ignore_case = true)]
    entity: Option<Entity>,
    /// The name in its ID: no blanks, no `@`, no `/`
    #[arg(long, requires = "entity")]
    seed: Option<String>,
    /// Who founds the group; the private key must be here
    #[arg(long, value_name = "ID", requires = "entity")]
    founder: Option<String>,
    /// How the address is made; BTC and ETH are for users, without a name
    #[arg(long, value_name = "KIND", ignore_case = true, requires = "entity")]
    meta: Option<Meta>,
    /// Identity key (not for groups) [default: ecc]
    #[arg(long, value_name = "ALGORITHM", ignore_case = true)]
    key: Option<IdentityKey>,
    /// RSA bits of the key that others write to (not for groups) [default: 2048]
    #[arg(long, value_name = "BITS")]
    message_key: Option<MessageKey>,
    #[command(flatten)]
    properties: PropertyArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Entity {
    /// A person
    User,
    /// A group of users
    Group,
    /// A station
    Station,
    /// A service provider: a group of stations
    Isp,
    /// An automatic user
    Bot,
    /// The same as bot
    Robot,
    /// A content provider: a group of bots
    Icp,
}

impl Entity {
    const fn kind(self) -> EntityKind {
        match self {
            Self::User => EntityKind::User,
            Self::Group => EntityKind::Group,
            Self::Station => EntityKind::Station,
            Self::Isp => EntityKind::Provider,
            Self::Bot | Self::Robot => EntityKind::Bot,
            Self::Icp => EntityKind::ContentProvider,
        }
    }

    /// The name in the ID when none was given.
    fn default_seed(self) -> Result<String, Refusal> {
        let word = match self {
            Self::User => "user",
            Self::Station => "station",
            Self::Bot => "bot",
            Self::Robot => "robot",
            Self::Group => "group",
            Self::Isp => "isp",
            Self::Icp => "icp",
        };
        if self.kind().is_user() {
            return Ok(word.to_owned());
        }
        // A founder has many groups, and they should not all be called the same.
        let mut number = [0; 4];
        rand::fill(&mut number).map_err(|_| Refusal::here("the system has no randomness"))?;
        Ok(format!("{word}-{}", u32::from_be_bytes(number)))
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Meta {
    /// Made of a signed name: `name@address`
    Mkm,
    /// Made of the key, in Bitcoin's form
    Btc,
    /// Made of the key, in Ethereum's form
    Eth,
}

impl From<Meta> for MetaKind {
    fn from(typed: Meta) -> Self {
        match typed {
            Meta::Mkm => Self::Mkm,
            Meta::Btc => Self::Btc,
            Meta::Eth => Self::Eth,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum IdentityKey {
    /// secp256k1
    Ecc,
    #[value(name = "rsa-1024")]
    Rsa1024,
    #[value(name = "rsa-2048")]
    Rsa2048,
    #[value(name = "rsa-3072")]
    Rsa3072,
    #[value(name = "rsa-4096")]
    Rsa4096,
}

impl IdentityKey {
    fn generate(self) -> Result<SignKey, Refusal> {
        match self {
            Self::Ecc => SignKey::generate_ecc(),
            Self::Rsa1024 => SignKey::generate_rsa(1024),
            Self::Rsa2048 => SignKey::generate_rsa(2048),
            Self::Rsa3072 => SignKey::generate_rsa(3072),
            Self::Rsa4096 => SignKey::generate_rsa(4096),
        }
        .map_err(Refusal::here)
    }
}

pub(super) fn generate(folder: &Folder, args: &GenerateArgs) -> Result<(), Refusal> {
    match args.entity {
        Some(entity) => by_flags(folder, args, entity),
        None if args.properties != PropertyArgs::default() => Err(Refusal::usage(
            "without a type everything is asked for: name a type, or no property",
        )),
        None => by_questions(folder, args),
    }
}

fn by_flags(folder: &Folder, args: &GenerateArgs, entity: Entity) -> Result<(), Refusal> {
    let kind = entity.kind();
    let given = args.properties.given(kind)?;
    let meta = match (args.meta, kind, &args.seed) {
        (Some(meta), ..) => meta.into(),
        (None, EntityKind::User, None) => MetaKind::Eth,
        (None, ..) => MetaKind::Mkm,
    };
    if !meta.has_seed() && kind != EntityKind::User {
        return Err(Refusal::usage("only a user can have an ID without a name: use --meta MKM"));
    }
    if !meta.has_seed() && args.seed.is_some() {
        return Err(Refusal::usage("BTC and ETH addresses have no --seed: use --meta MKM"));
    }
    let seed = match (&args.seed, meta.has_seed()) {
        (Some(seed), _) => Some(seed.clone()),
        (None, true) => Some(entity.default_seed()?),
        (None, false) => None,
    };
    let founder = match (&args.founder, kind.is_group()) {
        (Some(founder), true) => Some(parse_id(founder)?),
        (None, false) => None,
        (Some(_), false) => return Err(Refusal::usage("only a group has a --founder")),
        (None, true) => return Err(Refusal::usage("a group needs a --founder")),
    };
    let mut account = make(folder, args, kind, meta, seed.as_deref(), founder.as_ref())?;
    let mut properties = properties_of(&account);
    for Field { name, default, is_number, .. } in fields(kind) {
        match (*name, &seed) {
            ("name", Some(seed)) => properties.insert("name".into(), seed.as_str().into()),
            (_, _) if default.is_empty() => continue,
            _ if *is_number => {
                properties.insert((*name).into(), crate::server::config::PORT.into())
            }
            _ => properties.insert((*name).into(), (*default).into()),
        };
    }
    properties.extend(given.into_iter().map(|(name, value)| (name.to_owned(), value)));
    finish(folder, &mut account, properties)?;
    say(format_args!("New ID: {}", account.id()));
    Ok(())
}

/// Types that the reference's tool offers, with their numbers.
const TYPES: [(u8, &str); 6] = [
    (0, "User"),
    (1, "Group (User Group)"),
    (2, "Station (Server Node)"),
    (3, "ISP (Service Provider)"),
    (4, "Bot (Business Node)"),
    (5, "ICP (Content Provider)"),
];
const METAS: [(u8, &str); 2] = [(2, "BTC"), (4, "ETH")];

fn by_questions(folder: &Folder, args: &GenerateArgs) -> Result<(), Refusal> {
    let mut prompt = Prompt::standard();
    prompt.say("Generating DIM account...");
    let kind = EntityKind::from_network(prompt.choose(&TYPES, "address type")?);
    let meta = match kind {
        EntityKind::User => match prompt.choose(&METAS, "meta type")? {
            2 => MetaKind::Btc,
            _ => MetaKind::Eth,
        },
        _ => {
            prompt.say("!!! meta type: 1");
            MetaKind::Mkm
        }
    };
    let seed = if meta.has_seed() {
        let default = match kind {
            EntityKind::Station => "test_station",
            EntityKind::Bot => "test_bot",
            _ => "test_group",
        };
        let question = format!(">>> please input ID.name (default is \"{default}\"): ");
        let seed = Some(prompt.ask(&question)?).filter(|seed| !seed.is_empty());
        let seed = seed.unwrap_or_else(|| default.to_owned());
        check_seed(&seed)?;
        prompt.say(&format!("!!! ID.name (meta seed): {seed}"));
        Some(seed)
    } else {
        None
    };
    let founder = match kind.is_group() {
        true => Some(parse_id(&prompt.ask(">>> please input group founder: ")?)?),
        false => None,
    };
    let mut account = make(folder, args, kind, meta, seed.as_deref(), founder.as_ref())?;
    let mut properties = properties_of(&account);
    prompt.edit(account.id(), fields(kind), &mut properties)?;
    finish(folder, &mut account, properties)?;
    prompt.show(&account, founder.as_ref())
}

/// The account with an empty card; nothing is written yet.
fn make(
    folder: &Folder,
    args: &GenerateArgs,
    kind: EntityKind,
    meta: MetaKind,
    seed: Option<&str>,
    founder: Option<&Id>,
) -> Result<Account, Refusal> {
    if let Some(seed) = seed {
        check_seed(seed)?;
    }
    let (network, now_s) = (kind.code(), now_s());
    let made = if let (Some(founder), Some(seed)) = (founder, seed) {
        if args.key.is_some() || args.message_key.is_some() {
            return Err(Refusal::usage("a group has the key of its founder, and no other"));
        }
        let Some(sign) = folder.sign_key(founder)? else {
            let said = format!("the private key of the founder {founder} is not here");
            return Err(Refusal::here(said));
        };
        Account::create_group(network, seed, founder, sign, now_s, Map::new())
    } else {
        let key = args.key.unwrap_or(IdentityKey::Ecc);
        if meta == MetaKind::Eth && key != IdentityKey::Ecc {
            return Err(Refusal::usage("an ETH address is made of an ECC key: use --key ecc"));
        }
        let open = args.message_key.unwrap_or(MessageKey::Rsa2048).generate()?;
        Account::create(meta, network, seed, key.generate()?, open, now_s, Map::new())
    };
    made.map_err(|error| match error {
        CryptoError::Proto(error) => Refusal::here(format!("no such ID can be made: {error}")),
        error => Refusal::here(error),
    })
}

fn check_seed(seed: &str) -> Result<(), Refusal> {
    let odd = |letter: char| letter.is_whitespace() || letter.is_control() || "@/".contains(letter);
    if seed.is_empty() || seed.contains(odd) {
        let said = format!(
            "\"{}\" cannot be the name in an ID: blanks, `@` and `/` are not allowed",
            seed.escape_debug()
        );
        return Err(Refusal::here(said));
    }
    Ok(())
}

/// What the account's card says, without what each new one is given anyway.
pub(super) fn properties_of(account: &Account) -> Map<String, Value> {
    let card = account.document().map(|document| document.properties().clone());
    card.unwrap_or_default()
}

/// Signs and writes.
pub(super) fn finish(
    folder: &Folder,
    account: &mut Account,
    properties: Map<String, Value>,
) -> Result<(), Refusal> {
    account.publish(properties, now_s()).map_err(|error| match error {
        CryptoError::Proto(ProtoError { .. }) => Refusal::here(format!(
            "the present document is dated later than this machine's clock: {error}"
        )),
        error => Refusal::here(error),
    })?;
    Ok(folder.save(account)?)
}
