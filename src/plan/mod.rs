//! The plan: nodes in topological order, and the key of each unit. A pure function of the resolved experiment;
//! independent of what is stored.

mod absent;
mod across;
mod build;
mod checks;
mod id;
mod imports;
pub mod key;
mod preimage;
mod readings;
mod rollouts;
mod rounds;
mod select;
mod sources;
mod variants;

use std::collections::HashSet;
use std::ops::Range;
use std::panic::resume_unwind;
use std::sync::Arc;

pub use absent::Absent;
pub use across::Pair;
pub use build::{NEUTRAL, build, build_limited};
pub use id::{NodeId, Subject};
pub use select::{Nothing, Selection};
pub use sources::limit_notes;

use crate::exchange::read::Files as Theirs;
use crate::lm::{Chat, Layer};
use crate::stages::analysis::Analysis;
use crate::stages::rollouts::{Asked, Writing};
use crate::stages::scores::Scorer;
use crate::stages::stories::file::Files;
use crate::stages::stories::{Generate, Item, Server, Template};
use crate::stages::{activations, readings as reading, spans, texts, vectors};
use key::{Digest, Key};

/// Minimum number of lookups per thread, as starting a thread costs as much as a few lookups.
const UNITS_A_THREAD: usize = 64;

/// Everything a run could do. Inputs come before the nodes that need them, and the nodes of one model are adjacent.
#[derive(Clone, Debug)]
pub struct Plan {
    pub nodes: Vec<Node>,
    /// Parts of the experiment that are missing because a model is unavailable.
    pub absent: Vec<Absent>,
    /// Names of analyses that are computed with the report, from the results of other analyses.
    pub scale: Vec<String>,
}

/// One line of the plan: a stage applied to one set of inputs.
#[derive(Clone, Debug)]
pub struct Node {
    pub id: NodeId,
    pub work: Work,
    /// The model that has to be loaded: its index in `Resolved::models`.
    pub model: Option<usize>,
    pub units: Vec<Unit>,
}

impl Node {
    /// The name for output and selection: `stories/<source>`, `activations/<model>/<source>`, ...
    pub fn name(&self) -> String {
        self.id.to_string()
    }
}

/// The smallest item that is stored: one shard of stories, or one layer of a result.
#[derive(Clone, Debug)]
pub struct Unit {
    pub key: Key,
    /// The JSON text whose digest is the key.
    pub preimage: String,
    /// The range of the source's stories that it covers: a shard, or all of them.
    pub stories: Range<usize>,
    pub layer: Option<Layer>,
    pub inputs: Vec<UnitId>,
}

/// A unit's position in the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct UnitId {
    pub node: usize,
    pub unit: usize,
}

/// What a node does: its kind and its parameters. A plan may have ten thousand nodes, so large parameters are boxed,
/// and those of an analysis are shared by all the sets of vectors that it is run on.
#[derive(Clone, Debug)]
pub enum Work {
    Template {
        source: Template,
        items: Vec<Item>,
    },
    Generate {
        source: Box<Generate>,
        items: Vec<Item>,
        seed: u64,
        chat: Chat,
    },
    Served {
        server: Box<Server>,
        source: Box<Generate>,
        items: Vec<Item>,
        seed: u64,
        identity: Digest,
    },
    File(Files),
    Activations {
        params: activations::Params,
        /// For neutral text: the number of tokens of each text that are read one by one.
        tokens: Option<usize>,
        chat: Chat,
    },
    Neutral(vectors::Params),
    Vectors {
        params: vectors::Params,
        emotions: Vec<String>,
        set: Set,
        /// Files with imported vectors, if the vectors are not computed here.
        theirs: Option<Theirs>,
    },
    /// Transcripts read from files.
    Texts(texts::Files),
    /// Dialogues in the stories that are its inputs.
    Dialogues,
    /// Prompts from the experiment file, each with its class.
    Prompts(Vec<(String, String)>),
    /// Spans of conversations, pooled.
    Spans(spans::Params),
    /// Texts from the experiment file that are read token by token.
    Written(Vec<String>),
    Readings {
        params: reading::Params,
        set: Set,
    },
    /// Texts generated under steering, one unit per case.
    Rollouts {
        writing: Box<Writing>,
        chat: Chat,
        seed: u64,
        set: Set,
    },
    /// The first of such texts in each cell as conversations, one unit per case.
    Samples {
        cases: Vec<Asked>,
        most: usize,
    },
    /// Scores of such texts, one unit per case.
    Scores {
        scorer: Box<Scorer>,
        cases: Vec<Asked>,
        /// Settings for the chat template of a judge.
        chat: Chat,
        /// Identity of a judge on a server.
        identity: Option<Digest>,
    },
    /// An analysis of one set of vectors. `vectors`: the parameters from which the set is computed.
    Analysis {
        name: String,
        analysis: Arc<Analysis>,
        chat: Chat,
        seed: u64,
        set: Set,
        vectors: vectors::Params,
    },
    /// An analysis of two sets of vectors: one unit for each of `pairs`.
    Across {
        name: String,
        across: Arc<Analysis>,
        seed: u64,
        pairs: Vec<Pair>,
    },
}

/// One set of emotion vectors, identified by the model and the stories that it read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    pub model: String,
    pub stories: String,
    /// The sweep axes on which it depends, with their values; empty without a sweep.
    pub axes: Vec<(String, String)>,
    pub n_layers: usize,
    /// Whether it only checks the numerics of another set.
    pub is_check: bool,
}

impl Set {
    /// The axes as text, as in the column `variant` of results: `from_token=50, denoise=none`; empty without a sweep.
    pub fn variant(&self) -> String {
        self.axes.iter().map(|(axis, value)| format!("{axis}={value}")).collect::<Vec<_>>().join(", ")
    }
}

impl Work {
    /// The stage's name: the folder of its artifacts, and the first word of `stage` in the pre-images of its keys.
    pub fn stage(&self) -> &'static str {
        match self {
            Work::Template { .. } | Work::Generate { .. } | Work::Served { .. } | Work::File(_) => "stories",
            Work::Activations { .. } => "activations",
            Work::Neutral(_) => "neutral",
            Work::Vectors { .. } => "vectors",
            Work::Texts(_) | Work::Written(_) | Work::Dialogues | Work::Prompts(_) | Work::Samples { .. } => {
                "texts"
            }
            Work::Spans(_) => "spans",
            Work::Readings { .. } => "readings",
            Work::Rollouts { .. } => "rollouts",
            Work::Scores { .. } => "scores",
            Work::Analysis { analysis, .. } => analysis.kind(),
            Work::Across { across, .. } => across.kind(),
        }
    }
}

impl Plan {
    /// The unit at `id`.
    pub fn unit(&self, id: UnitId) -> &Unit {
        &self.nodes[id.node].units[id.unit]
    }

    /// The units for which `is_there` holds. Uses several threads, as each answer waits for the disk.
    pub fn units_where(&self, is_there: impl Fn(&Node, &Unit) -> bool + Sync) -> HashSet<UnitId> {
        let ids = |node: usize| (0..self.nodes[node].units.len()).map(move |unit| UnitId { node, unit });
        let all: Vec<UnitId> = (0..self.nodes.len()).flat_map(ids).collect();
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let holds = |id: &UnitId| is_there(&self.nodes[id.node], self.unit(*id));
        std::thread::scope(|scope| {
            let ask = |ids: &'_ [UnitId]| {
                let ids = ids.to_vec();
                scope.spawn(move || ids.into_iter().filter(holds).collect::<Vec<_>>())
            };
            let parts: Vec<_> =
                all.chunks(all.len().div_ceil(threads).max(UNITS_A_THREAD)).map(ask).collect();
            parts
                .into_iter()
                .flat_map(|part| part.join().unwrap_or_else(|panic| resume_unwind(panic)))
                .collect()
        })
    }

    /// The node called `name`.
    pub fn node(&self, name: &str) -> Option<usize> {
        self.nodes.iter().position(|n| n.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_thousand_nodes_take_little_room() {
        assert!(
            size_of::<Node>() <= 352,
            "{} bytes, of which {} are the work",
            size_of::<Node>(),
            size_of::<Work>()
        );
    }
}
