//! Executes nodes of scores: by patterns, by programs in a sandbox, by a model of the experiment, or by a server.

use anyhow::{Context, Result, bail, ensure};

use super::{Kept, Lane};
use crate::lm::memory::Work as Memory;
use crate::plan::key::Digest;
use crate::plan::{Node, Unit, Work};
use crate::resolve;
use crate::stages::rollouts::Asked;
use crate::stages::scores::judge::{self, By, Judge};
use crate::stages::scores::{self, Scorer};
use crate::stages::stories::Server;
use crate::store::table::Table;

/// Why a judge on a server is not queried in offline mode.
pub const NOT_JUDGED_OFFLINE: &str = "its judge is at a server, and --offline opens no socket";

impl Lane<'_> {
    /// Scores each text of `written`.
    pub(super) fn score(
        &mut self,
        node: &Node,
        unit: &Unit,
        written: &Table,
        batches: &mut Kept,
    ) -> Result<Table> {
        let Work::Scores { scorer, cases, chat, identity } = &node.work else { bail!("a node of scores") };
        let case = case_of(node, unit, cases)?;
        let judge = match &**scorer {
            Scorer::Pattern(outcomes) => return scores::by_pattern(outcomes, written),
            Scorer::Run(run) => return scores::by_run(run, case, written, batches),
            Scorer::Judge(judge) => judge,
        };
        if let (By::Server(server), Some(identity)) = (&judge.by, identity) {
            ensure!(!self.resolved.offline, "{NOT_JUDGED_OFFLINE}");
            resolve::ensure_same(server, *identity)?;
            let client = &mut self.client;
            return scores::by_judge(case, written, |case, texts| {
                judge::served(judge, server, case, texts, client, batches)
            });
        }
        let memory = Memory::Passes { batch_tokens: judge::BATCH_TOKENS, waiting: 0 };
        let model = self.model(node, memory)?;
        scores::by_judge(case, written, |case, texts| {
            judge::local(judge, case, texts, (model, *chat), batches)
        })
    }
}

/// The case of a unit, in a node with one unit for each of `cases`.
pub fn case_of<'a>(node: &Node, unit: &Unit, cases: &'a [Asked]) -> Result<&'a Asked> {
    let place = node.units.iter().position(|other| other.key == unit.key);
    Ok(&cases[place.context("a unit of the node")?])
}

/// The server that a node uses, and the identity of its model.
pub fn server_of(work: &Work) -> Option<(&Server, Digest)> {
    match work {
        Work::Served { server, identity, .. } => Some((server, *identity)),
        Work::Scores { scorer, identity, .. } => match &**scorer {
            Scorer::Judge(Judge { by: By::Server(server), .. }) => Some((server, (*identity)?)),
            _ => None,
        },
        _ => None,
    }
}
