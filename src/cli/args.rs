//! What can be typed. Subcommands say what is done; the flags are the configuration's own keys.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use super::bot::BotArgs;
use super::bridge::BridgeArgs;
use super::chat::ChatArgs;
use super::export::ExportArgs;
use super::id::IdArgs;
use super::import::ImportArgs;
use crate::server::config;

/// Read after the flags, so it ends `--help`.
const NOTES: &str = "\
Without a subcommand the station runs. The reference's config.ini is read as it is.

Environment, stronger than the file and weaker than flags:
  DIM_CONFIG, DIM_DATA_DIR, DIM_HOST, DIM_PORT, DIM_ANS=name=ID,name=ID, DIM_LOG

Exit codes: 0 fine, 1 cannot run (the reason is on standard error), 2 wrong usage.";

/// A station for DIM (Decentralized Instant Messaging)
#[derive(Debug, Parser)]
#[command(name = "dims", version, after_help = NOTES, args_conflicts_with_subcommands = true)]
pub(super) struct Typed {
    #[command(flatten)]
    pub(super) config: ConfigArgs,
    #[command(subcommand)]
    pub(super) command: Option<Command>,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run the station until SIGTERM or Ctrl-C
    Run(ConfigArgs),
    /// Make a data folder with a commented station.toml
    Init {
        /// A new or empty folder
        #[arg(default_value = config::DATA_DIR)]
        dir: PathBuf,
    },
    /// Tell what keeps a station from running here, without starting it
    Check {
        #[command(flatten)]
        config: ConfigArgs,
        /// An object a line, for programs
        #[arg(long)]
        json: bool,
    },
    /// Make, edit and look at accounts
    Id(IdArgs),
    /// Take over what the reference has kept: accounts, login records, keys
    Import(ImportArgs),
    /// Write what is kept in the reference's layout
    Export(ExportArgs),
    /// Talk to others through a station, by hand or from a script
    Chat(ChatArgs),
    /// Run a bot until SIGTERM or Ctrl-C: a client of a station that answers by itself
    Bot(BotArgs),
    /// Take messages between a station and its neighbours, where the station does not do it itself
    Bridge(BridgeArgs),
}

/// Which files are meant, where no station is run.
#[derive(Debug, Args)]
pub(super) struct PlaceArgs {
    /// Config file: station.toml, or the reference's config.ini
    #[arg(long, short, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// Folder of everything that is kept
    #[arg(long, value_name = "DIR", global = true)]
    data_dir: Option<PathBuf>,
    /// Taken, since scripts give it to the reference's tool; there is no log
    #[arg(long, value_name = "DIR", global = true, hide = true)]
    log_dir: Option<PathBuf>,
    /// The same
    #[arg(long, global = true, hide = true)]
    log_location: bool,
}

impl From<&PlaceArgs> for config::Args {
    fn from(typed: &PlaceArgs) -> Self {
        Self { config: typed.config.clone(), data_dir: typed.data_dir.clone(), ..Self::default() }
    }
}

#[derive(Debug, Args)]
pub(super) struct ConfigArgs {
    /// Config file: station.toml, or the reference's config.ini
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Folder of everything that is kept
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// IP address to listen on
    #[arg(long, value_name = "ADDRESS")]
    host: Option<String>,
    /// TCP port to listen on; 0: any free one
    #[arg(long)]
    port: Option<u16>,
    /// Number of shards; 0: one for each core
    #[arg(long, value_name = "COUNT")]
    shards: Option<u16>,
    /// Short name for an ID; may be given again
    #[arg(long, value_name = "NAME=ID")]
    ans: Vec<String>,
    /// Log level: off, error, warn, info, debug, trace
    #[arg(long, value_name = "LEVEL")]
    log: Option<String>,
    /// Folder of log files, instead of standard error
    #[arg(long, value_name = "DIR")]
    log_dir: Option<PathBuf>,
    /// Log lines name their place in the source
    #[arg(long)]
    log_location: bool,
    /// Any key of station.toml; may be given again
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    set: Vec<String>,
}

impl From<ConfigArgs> for config::Args {
    fn from(typed: ConfigArgs) -> Self {
        Self {
            config: typed.config,
            data_dir: typed.data_dir,
            host: typed.host,
            port: typed.port,
            shards: typed.shards,
            ans: typed.ans,
            log: typed.log,
            log_dir: typed.log_dir,
            log_location: typed.log_location,
            set: typed.set,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(line: &[&str]) -> Result<Typed, clap::error::ErrorKind> {
        Typed::try_parse_from([&["dims"], line].concat()).map_err(|error| error.kind())
    }

    #[test]
    fn the_command_line_is_well_formed() {
        <Typed as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn the_references_flags_are_taken() {
        let line = ["--config=/etc/dim/config.ini", "--log-location", "--log-dir=/var/log/dim"];
        let args: config::Args = typed(&line).unwrap().config.into();
        assert_eq!(args.config, Some("/etc/dim/config.ini".into()));
        assert_eq!(args.log_dir, Some("/var/log/dim".into()));
        assert!(args.log_location);
    }

    #[test]
    fn flags_go_with_their_subcommand() {
        assert!(matches!(typed(&["run", "--port", "0"]).unwrap().command, Some(Command::Run(_))));
        assert!(typed(&["--port", "1", "check"]).is_err());
        assert!(typed(&["--port", "70000"]).is_err());
        assert!(typed(&["walk"]).is_err());
    }
}
