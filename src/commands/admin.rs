//! `wsgate status`, `reload` and `drain`: what an operator asks of a running gate.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use tokio::time::{Instant, sleep};

use crate::commands::check::report;
use crate::commands::load::load;
use crate::commands::settings::Settings;
use crate::commands::{CONFIG, DONE, FAILED, print};
use crate::config::ConfigError;
use crate::config::admin_addr::AdminAddr;
use crate::status::admin::Action;
use crate::status::admin::ask::{AskError, Asker};
use crate::status::endpoint::Endpoint;

/// Where `wsgate status`, `reload` and `drain` find the gate.
#[derive(Args, Clone, Debug)]
pub(crate) struct Asking {
    /// The admin listener, ADDR or unix:PATH [default: admin.listen of the configuration]
    #[arg(long, value_name = "ADDR")]
    admin: Option<AdminAddr>,
    /// A file with its token [default: admin.token_file of the configuration]
    #[arg(long, value_name = "F")]
    token_file: Option<PathBuf>,
    #[command(flatten)]
    settings: Settings,
}

/// Prints what the gate says of itself, for a person or as the JSON that came.
pub(crate) fn status(asking: &Asking, json: bool) -> u8 {
    ask(asking, async |asker| {
        let (text, report) = asker.report().await?;
        Ok(print(&if json { text } else { report.to_string() }))
    })
}

/// Lets the gate read its certificates again.
pub(crate) fn reload(asking: &Asking) -> u8 {
    ask(asking, async |asker| {
        asker.act(Action::Reload).await?;
        Ok(print("certificates are read again; the gate's log says what came of it\n"))
    })
}

/// Lets the gate go down in order, and waits until nobody is connected any more if that is wanted.
pub(crate) fn drain(asking: &Asking, wait: bool) -> u8 {
    ask(asking, async |asker| {
        asker.act(Action::Drain).await?;
        match wait {
            true => until_drained(&asker).await,
            false => Ok(print("the gate drains, and ends when it is done\n")),
        }
    })
}

async fn until_drained(asker: &Asker) -> Result<u8, AskError> {
    let mut said: Option<(Instant, u64)> = None;
    let mut failures = 0;
    loop {
        match asker.report().await {
            Ok((_, report)) if report.drained => break,
            Ok((_, report)) => {
                failures = 0;
                let left = report.connections.active;
                let due = said.is_none_or(|(at, before)| {
                    at.elapsed() >= SAY_AGAIN || (left != before && at.elapsed() >= LOOK * 4)
                });
                if due {
                    let noun = if left == 1 { "connection" } else { "connections" };
                    eprintln!("draining: {left} {noun} left");
                    said = Some((Instant::now(), left));
                }
            }
            // It ends when it is drained.
            Err(AskError::Gone(..)) => break,
            Err(error) => {
                failures += 1;
                if failures == FAILURES_MAX {
                    return Err(error);
                }
            }
        }
        sleep(LOOK).await;
    }
    eprintln!("drained");
    Ok(DONE)
}

/// Finds the gate and asks it.
fn ask<F: Future<Output = Result<u8, AskError>>>(
    asking: &Asking,
    question: impl FnOnce(Asker) -> F,
) -> u8 {
    let asker = match asker(asking) {
        Ok(asker) => asker,
        Err(Lost::Config(errors)) => return report(&errors),
        Err(Lost::Nowhere(why)) => {
            eprintln!("error: {why}");
            return FAILED;
        }
        Err(Lost::Token(why)) => {
            eprintln!("error: {why}");
            return CONFIG;
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = runtime
        .map_err(|error| error.to_string())
        .and_then(|runtime| runtime.block_on(question(asker)).map_err(|error| error.to_string()));
    done.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        FAILED
    })
}

/// Why nobody can be asked.
enum Lost {
    Config(Vec<ConfigError>),
    Nowhere(String),
    Token(String),
}

/// The flags, or what the configuration says.
fn asker(asking: &Asking) -> Result<Asker, Lost> {
    let (endpoint, token_file) = match &asking.admin {
        Some(admin) => (admin.0.clone(), asking.token_file.clone()),
        None => {
            let admin = load(&asking.settings).map_err(Lost::Config)?.file.admin;
            let Some(listen) = admin.listen else {
                return Err(Lost::Nowhere("admin.listen is null: nobody can be asked".to_owned()));
            };
            (listen.0, asking.token_file.clone().or(admin.token_file))
        }
    };
    if matches!(endpoint, Endpoint::Tcp(address) if address.port() == 0) {
        let why = "admin.listen has port 0: say where it is with --admin";
        return Err(Lost::Nowhere(why.to_owned()));
    }
    let text = token_file.as_deref().map(read).transpose().map_err(Lost::Token)?;
    Asker::new(endpoint, text.as_deref()).map_err(Lost::Token)
}

fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path)
        .map_err(|error| format!("cannot read the token in `{}`: {error}", path.display()))
}

/// From one look to the next.
const LOOK: Duration = Duration::from_millis(250);

/// Where the number stays the same.
const SAY_AGAIN: Duration = Duration::from_secs(5);

/// A gate that listens and does not answer so often is given up.
const FAILURES_MAX: u32 = 5;
