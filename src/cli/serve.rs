//! `emoflow serve`: serves an experiment's results, progress and models locally. Runs no part of the experiment.

use std::io::Write;
use std::net::TcpListener;

use anyhow::Result;
use clap::Args;

use super::{Access, ExperimentArgs, Limit, MachineArgs, Usage, prepare, report, status};
use crate::config::problem::Problems;
use crate::lm::libtorch;
use crate::progress::{self, Style};
use crate::serve::{self, Ready, Site};
use crate::store::Store;

#[derive(Args)]
pub struct ServeArgs {
    #[command(flatten)]
    experiment: ExperimentArgs,
    /// The port of 127.0.0.1; 0 chooses a free one
    #[arg(long, default_value_t = 8765, value_name = "PORT")]
    port: u16,
    /// Open it in the browser
    #[arg(long)]
    open: bool,
    #[command(flatten)]
    machine: MachineArgs,
    #[command(flatten)]
    limit: Limit,
}

/// Prints the address and serves requests until the program is ended.
///
/// # Errors
/// The file is not an experiment; the port is in use.
pub fn run(args: &ServeArgs, out: &mut dyn Write) -> Result<u8> {
    libtorch::load(); // first: this may restart the program, and the address is printed only once
    let progress = progress::start(Style::Auto);
    let checked = args.experiment.read(&|_| Vec::new())?;
    let results = args.machine.results(&checked);
    let store = Store::open(args.machine.cache(&checked))?.read_only();
    let prepared = prepare(&args.experiment, &args.machine, &args.limit, Access::Look, &*progress);
    let prepared = match prepared {
        Err(error) if error.is::<Usage>() || error.is::<Problems>() && !results.is_dir() => {
            return Err(error);
        }
        prepared => prepared,
    };
    let ready = match &prepared {
        Ok(prepared) => {
            prepared.say(&*progress);
            Ok(Ready { resolved: &prepared.resolved, plan: &prepared.plan, store: &prepared.store })
        }
        Err(error) => {
            say!("serving results only, without models: {error:#}");
            Err(format!("{error:#}"))
        }
    };
    let listener = TcpListener::bind(("127.0.0.1", args.port)).map_err(|error| {
        Usage(format!(
            "port {} of 127.0.0.1 is not available: {error}; `--port 0` chooses a free one",
            args.port
        ))
    })?;
    let token = serve::token()?;
    let address = format!("http://{}/{token}/", listener.local_addr()?);
    writeln!(out, "{address}")?;
    out.flush()?;
    say!(
        "anyone with this address can use the models; it is reachable from this machine only. Ctrl-C stops the server"
    );
    if args.open {
        report::open_in_browser(address.as_ref())?;
    }
    let status = || status::value(&checked.name, &results, &store);
    serve::serve(
        &listener,
        &Site { name: &checked.name, results: &results, status: &status, ready, token: &token },
    )?;
    Ok(0)
}
