//! `dims id modify`: a new card for an account that is here. Its keys stay.

use std::collections::BTreeSet;

use clap::Args;

use super::super::{Refusal, say};
use super::generate::{finish, properties_of};
use super::prompt::{Prompt, shown};
use super::{MessageKey, PropertyArgs, fields, known, parse_id};
use crate::client::account::Account;
use crate::client::folder::{Folder, founder_in};

#[derive(Debug, Args)]
pub(super) struct ModifyArgs {
    /// Whose
    id: String,
    /// Who founded the group, and so signs for it
    #[arg(long, value_name = "ID")]
    founder: Option<String>,
    /// RSA bits of a message key, which is made if there is none
    #[arg(long, value_name = "BITS", default_value = "2048")]
    message_key: MessageKey,
    #[command(flatten)]
    properties: PropertyArgs,
}

pub(super) fn modify(folder: &Folder, args: &ModifyArgs) -> Result<(), Refusal> {
    let id = parse_id(&args.id)?;
    let mut given = args.properties.given(id.kind())?;
    let founder = args.founder.as_deref().map(parse_id).transpose()?;
    if let Some(founder) = &founder {
        if !id.is_group() {
            return Err(Refusal::usage("only a group has a --founder"));
        }
        given.push(("founder", founder.as_str().into()));
    }
    let asking = given.is_empty();
    let mut prompt = Prompt::standard();
    if asking {
        prompt.say("Modifying DIM account...");
    }
    let mut account = folder.account(&known(folder, &args.id)?, founder.as_ref())?;
    if !id.is_group() && account.message_keys().is_empty() {
        account.add_message_key(args.message_key.generate()?);
    }
    let mut properties = properties_of(&account);
    if asking {
        let signer = match id.is_group() {
            true => founder_in(account.documents()),
            false => None,
        };
        prompt.edit(&id, fields(id.kind()), &mut properties)?;
        finish(folder, &mut account, properties)?;
        return prompt.show(&account, signer.as_ref());
    }
    let names: BTreeSet<&str> = given.iter().map(|(name, _)| *name).collect();
    properties.extend(given.into_iter().map(|(name, value)| (name.to_owned(), value)));
    finish(folder, &mut account, properties)?;
    report(&account, &names);
    Ok(())
}

/// The new values, as they stand in the signed document.
fn report(account: &Account, names: &BTreeSet<&str>) {
    for (name, value) in properties_of(account) {
        if names.contains(name.as_str()) {
            say(format_args!("{name} = {}", shown(&value)));
        }
    }
    say(format_args!("Modified ID: {}", account.id()));
}
