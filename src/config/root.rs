//! The top level of the file: its own keys, and the tables below it, in the order in which they are read.

use super::analyses::{self, Analyses};
use super::criteria::{self, Criterion, CriterionKeys};
use super::dialogues::{self, Dialogues};
use super::imports::VectorKeys;
use super::judges::{self, Judge, JudgeKeys};
use super::models::{self, EmotionKeys, ModelKeys};
use super::transcripts::{self, Transcripts};
use super::{Layers, Model, Source, sources};
use crate::lm::Date;
use crate::params::problem::{Problem, quoted};
use crate::params::{Node, Params as _, Read, Reader, Type, params};
use crate::stages::activations;

params! {
    /// The top of the file, before the first `[table]`.
    pub struct Root {
        /// Results go to `results/<name>/`. Not part of any key: renaming computes nothing again.
        #[unset("the file's stem")]
        #[of(Type::Name)]
        #[with(name)]
        pub name: Option<String>;
        /// Shown at the top of the report.
        pub description: String = "";
        /// Every random draw follows from it: written stories, random directions, shuffled orders.
        pub seed: u64 = 0, 0..;
        /// Stories that are written, read and stored together. Part of the keys of stories: another number computes everything
        /// again.
        pub shard: usize = 256, 1..;
        /// Where a model's arithmetic is not in f32 (`compute_dtype`): everything that is claimed of it is computed in f32 too,
        /// at the one kept layer nearest to two thirds of the depth, from so many stories of each source (rounded up to whole
        /// shards, spread over the source; all where there are fewer), to see how far the type of the arithmetic moves each claim. `0`: no check.
        /// What reads or writes text token by token is not checked.
        pub check_precision: usize = 1024, 0..;
        /// The day, `YYYY-MM-DD`, that chat templates see where they ask for the date (`strftime_now`): results do not change with
        /// the clock.
        #[of(Type::Text)]
        #[with(date)]
        pub date: Date = "2024-07-26";
        /// Which layers of the residual stream are kept; see below.
        #[with(kept)]
        pub layers: Layers = { depth = 0.667 };
        /// The models whose residual streams are read; at least one.
        #[of(Type::Named(ModelKeys::TABLE))]
        #[with(models::models)]
        pub models: Vec<Model>;
        /// The emotions; at least one.
        #[of(Type::Table(EmotionKeys::TABLE))]
        #[with(models::emotions)]
        pub emotions: Vec<String>;
        /// Where the texts come from; at least one source.
        #[of(Type::NamedKinds(sources::kinds))]
        #[with(sources::stories)]
        pub stories: Vec<Source>;
        /// Emotionless text for denoising.
        #[unset("no denoising")]
        #[of(Type::Kinds(sources::neutral_kinds))]
        #[with(sources::neutral)]
        pub neutral: Option<Source>;
        /// Conversations of others, which `readings` and `monitor` read token by token.
        #[of(Type::NamedKinds(transcripts::kinds))]
        #[with(transcripts::transcripts)]
        pub transcripts: Vec<Transcripts> = {};
        /// Conversations in which two emotions are known, the person's and the assistant's, or one that is felt and one that is shown.
        #[of(Type::NamedKinds(dialogues::kinds))]
        #[with(dialogues::dialogues)]
        pub dialogues: Vec<Dialogues> = {};
        /// Who says what a text of a scenario is.
        #[of(Type::Named(JudgeKeys::TABLE))]
        #[with(judges::judges)]
        pub judges: Vec<Judge> = {};
        /// How a story becomes one activation a layer.
        pub activations: activations::Params = {};
        /// How activations become emotion vectors, and vectors of others.
        pub vectors: VectorKeys = {};
        /// What is computed from the vectors.
        #[of(Type::NamedKinds(analyses::kinds))]
        #[with(analyses::analyses)]
        pub analysis: Analyses = {};
        /// What counts as a finding.
        #[of(Type::Named(CriterionKeys::TABLE))]
        #[with(criteria::criteria)]
        pub criteria: Vec<Criterion> = {};
        /// Keys with several values each: every combination is a variant of the experiment; see below.
        #[unset("no variants")]
        #[of(Type::Sweep)]
        #[with(laid_out)]
        pub sweep: ();
    }
}

fn name(reader: &Reader<'_>, key: &str) -> Read<Option<String>> {
    let name: Option<String> = reader.get(key)?;
    name.map(|name| reader.check_name(&name, &reader.span_of(key)).map(|()| name)).transpose()
}

/// A valid calendar date.
fn date(reader: &Reader<'_>, key: &str) -> Read<Date> {
    let text: String = reader.get(key)?;
    text.parse().or_else(|()| {
        let problem = Problem::at(reader.span_of(key), format!("{} is not a date", quoted(&text)));
        reader.wrong(problem.hint("write a date as `\"2024-07-26\"`: year, month, day"))
    })
}

/// Stores the layers, if all models keep the same ones, for tables further down that refer to layers.
fn kept(reader: &Reader<'_>, key: &str) -> Read<Layers> {
    let layers: Layers = reader.get(key)?;
    let models = reader.scope.file.find(&["models"]).map(Node::entries).unwrap_or_default();
    if models.iter().all(|model| model.node.find(&["layers"]).is_none())
        && let Some(kept) = layers.listed()
    {
        // Set only once.
        let _ = reader.scope.kept.set(kept);
    }
    Ok(layers)
}

/// A sweep is removed from the file before it is read.
fn laid_out(_: &Reader<'_>, _: &str) -> Read<()> {
    Ok(())
}
