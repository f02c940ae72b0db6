//! What keys are digests of: the parameters of each stage, inputs, model and numerics, as JSON. Knows no node.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;

use serde::Serialize;

use super::key::{Digest, Key};
use crate::lm::{Chat, Dtype, Layer};
use crate::stages::activations::{Long, Short, StoreDtype, Wrap};
use crate::stages::analysis::Analysis;
use crate::stages::rollouts::{Asked, Steering, Texts, Writing};
use crate::stages::scores::Scorer;
use crate::stages::scores::judge::{By, Judge};
use crate::stages::stories::file::Files;
use crate::stages::stories::{Columns, Generate, Item, Protocol, Reject, Server, Several};
use crate::stages::vectors::{Center, Denoise, Equal};
use crate::stages::{activations, readings, texts, vectors};

/// What a key is the digest of. Field order, and so the JSON, is fixed.
#[derive(Serialize)]
struct Preimage<'a, P> {
    stage: &'a str,
    version: u32,
    params: &'a P,
    inputs: &'a [(&'static str, Key)],
    model: Option<&'a Digest>,
    numerics: Option<Numerics>,
}

/// The key of what `stage` makes of `inputs` with `params`, and its pre-image as JSON.
pub fn key<P: Serialize>(
    stage: &str,
    version: u32,
    params: &P,
    inputs: &[(&'static str, Key)],
    model: Option<&Digest>,
    numerics: Option<Numerics>,
) -> (Key, String) {
    let preimage = Preimage { stage, version, params, inputs, model, numerics };
    let mut preimage = serde_json::to_string(&preimage).expect("structs of strings and numbers");
    preimage.shrink_to_fit(); // a plan keeps ten thousand of them
    (Digest::of(preimage.as_bytes()), preimage)
}

/// What changes low bits without changing what is computed.
#[derive(Serialize)]
pub struct Numerics {
    pub dtype: Dtype,
    /// Of activations and arithmetic.
    pub compute_dtype: Dtype,
    pub device: &'static str,
    /// What computes: see [`crate::lm::Backend::name`].
    pub backend: &'static str,
    /// Which forward pass: see [`crate::lm::decoder::VERSION`].
    pub forward: u32,
    /// Bound on padded tokens in a batch; `None`: a batch is a shard.
    pub batch_tokens: Option<usize>,
}

/// Of passages that are filled in.
#[derive(Serialize)]
pub struct TemplateParams<'a> {
    pub stories: Vec<(&'a Item, &'a str)>,
}

/// Of story files: the same ones are the same stories wherever they are from.
#[derive(Serialize)]
pub struct FilesParams<'a> {
    pub files: Vec<FileParams<'a>>,
    pub columns: &'a Columns,
    pub emotions: Option<&'a [String]>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: &'a BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit_per_emotion: Option<usize>,
    pub first: usize,
    pub count: usize,
}

impl<'a> FilesParams<'a> {
    /// Those of the stories in `range` of `read`, whose files are `files`.
    pub fn of(read: &'a Files, files: Vec<FileParams<'a>>, range: Range<usize>) -> FilesParams<'a> {
        // Where files are is not in keys, what they hold is; with an empty row there is no story or no run.
        let Files { paths: _, columns, emotions, labels, empty: _, limit_per_emotion } = read;
        FilesParams {
            files,
            columns,
            emotions: emotions.as_deref(),
            labels,
            limit_per_emotion: *limit_per_emotion,
            first: range.start,
            count: range.len(),
        }
    }
}

/// Of one of them.
#[derive(Serialize)]
pub struct FileParams<'a> {
    pub content: Digest,
    pub format: &'static str,
    /// Its name, where that is the label of its rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<&'a str>,
}

/// Of one shard at one layer.
#[derive(Serialize)]
pub struct ActivationParams {
    pub layer: Layer,
    pub from_token: usize,
    pub wrap: Wrap,
    /// `None` where no template is rendered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chat: Option<Chat>,
    pub short: Short,
    pub long: Long,
    pub store_dtype: StoreDtype,
    /// Of neutral text: how many tokens of each text are read one by one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<usize>,
}

impl ActivationParams {
    /// Those of one layer; `chat`: what a template is told.
    pub fn of(
        params: &activations::Params,
        layer: Layer,
        chat: Chat,
        tokens: Option<usize>,
    ) -> ActivationParams {
        // The bound on a batch is among the numerics.
        let activations::Params { from_token, wrap, short, long, batch_tokens: _, store_dtype } = *params;
        let chat = (wrap != Wrap::Raw).then_some(chat);
        ActivationParams { layer, from_token, wrap, chat, short, long, store_dtype, tokens }
    }
}

/// Of the components of neutral text at one layer.
#[derive(Serialize)]
pub struct NeutralParams {
    pub denoise: Denoise,
}

impl NeutralParams {
    /// Those of vectors that are made so.
    pub fn of(params: &vectors::Params) -> NeutralParams {
        // Whether of tokens, its activations say.
        let vectors::Params { center: _, denoise, tokens: _, normalize: _, weights: _ } = *params;
        NeutralParams { denoise }
    }
}

/// Of the vectors at one layer.
#[derive(Serialize)]
pub struct VectorParams<'a> {
    pub emotions: &'a [String],
    pub center: Center,
    pub denoise: Denoise,
    pub normalize: bool,
    #[serde(skip_serializing_if = "Equal::is_stories")]
    pub weights: Equal,
    /// Of what only checks the arithmetic of others: where nothing can be computed, its artifact says why.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub is_check: bool,
}

impl<'a> VectorParams<'a> {
    /// Those of the vectors of `emotions`.
    pub fn of(params: &vectors::Params, emotions: &'a [String], is_check: bool) -> VectorParams<'a> {
        let vectors::Params { center, denoise, tokens: _, normalize, weights } = *params;
        VectorParams { emotions, center, denoise, normalize, weights, is_check }
    }
}

/// Of transcripts of files.
#[derive(Serialize)]
pub struct TextParams<'a> {
    pub files: Vec<(Digest, String)>,
    pub label: Option<&'a str>,
    pub event: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<&'a texts::file::LabelFields>,
    pub first: usize,
    pub count: usize,
}

impl<'a> TextParams<'a> {
    /// Those of the transcripts in `range` of files of such content.
    pub fn of(read: &'a texts::Files, digests: &[Digest], range: Range<usize>) -> TextParams<'a> {
        // Names of files are part of what is stored: where a transcript stands.
        let texts::Files { paths, label, event, broken: _, labels } = read;
        let name = |path: &PathBuf| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let files = digests.iter().copied().zip(paths.iter().map(name)).collect();
        let (label, event) = (label.as_deref(), event.as_deref());
        TextParams { files, label, event, labels: labels.as_ref(), first: range.start, count: range.len() }
    }
}

/// Of texts that are read token by token.
#[derive(Serialize)]
pub struct ReadingParams<'a> {
    pub layers: &'a [Layer],
    pub random: usize,
    /// `None` where nothing is drawn at random.
    pub seed: Option<u64>,
    /// Of texts that are no conversations.
    pub wrap: Option<Wrap>,
    /// `None` where no template is rendered.
    pub chat: Option<Chat>,
}

impl<'a> ReadingParams<'a> {
    /// Those at `layers`; `turns`: whether the texts are conversations.
    pub fn of(params: &readings::Params, layers: &'a [Layer], turns: bool) -> ReadingParams<'a> {
        let readings::Params { random, seed, wrap, chat } = *params;
        let (seed, wrap) = ((random > 0).then_some(seed), (!turns).then_some(wrap));
        ReadingParams { layers, random, seed, wrap, chat: (wrap != Some(Wrap::Raw)).then_some(chat) }
    }
}

/// Of the texts about a case that are written under steering.
#[derive(Serialize)]
pub struct RolloutParams<'a> {
    pub case: &'a str,
    pub system: &'a str,
    pub turns: &'a [String],
    pub replies: &'a [String],
    pub answer: &'a str,
    pub layers: &'a [Layer],
    pub steering: &'a Steering,
    pub texts: &'a Texts,
    pub seed: u64,
    pub chat: Chat,
}

impl<'a> RolloutParams<'a> {
    /// Those of a case that is steered at `layers`.
    pub fn of(
        writing: &'a Writing,
        case: &'a Asked,
        layers: &'a [Layer],
        seed: u64,
        chat: Chat,
    ) -> RolloutParams<'a> {
        let Writing { cases: _, steering, texts } = writing;
        // What it is counted among, and what else could be chosen, is no part of what is written. Seeds hang on the
        // name.
        let Asked { name, control: _, system, turns, replies, answer, shown: _, hidden: _, options: _ } =
            case;
        RolloutParams { case: name, system, turns, replies, answer, layers, steering, texts, seed, chat }
    }
}

/// Of such texts as conversations.
#[derive(Serialize)]
pub struct SampleParams<'a> {
    pub system: &'a str,
    pub turns: &'a [String],
    pub replies: &'a [String],
    /// Of each cell.
    pub most: usize,
}

impl<'a> SampleParams<'a> {
    /// Those of the first texts of a case in each cell.
    pub fn of(case: &'a Asked, most: usize) -> SampleParams<'a> {
        // Its answer is in the texts.
        let Asked { name: _, control: _, system, turns, replies, answer: _, shown: _, hidden: _, options: _ } =
            case;
        SampleParams { system, turns, replies, most }
    }
}

/// Of what the texts about a case are found to be.
#[derive(Serialize)]
pub struct ScoreParams<'a> {
    pub scorer: &'a Scorer,
    /// Of a judge that is a model of the experiment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chat: Option<Chat>,
    /// Of one at a server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<&'a serde_json::Map<String, serde_json::Value>>,
    /// Of programs: the tests that were shown, and those that were not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tests: Option<[&'a str; 2]>,
}

impl<'a> ScoreParams<'a> {
    /// Those by `scorer` of texts about `case`; `chat`: what the template of a judge is told.
    pub fn of(scorer: &'a Scorer, case: &'a Asked, chat: Chat) -> ScoreParams<'a> {
        let plain = ScoreParams { scorer, chat: None, protocol: None, body: None, tests: None };
        match scorer {
            Scorer::Pattern(_) => plain,
            Scorer::Run(_) => ScoreParams { tests: Some([&case.shown, &case.hidden]), ..plain },
            Scorer::Judge(Judge { by: By::Server(server), .. }) => ScoreParams {
                protocol: Some(server.protocol),
                body: Some(&server.body).filter(|body| !body.is_empty()),
                ..plain
            },
            Scorer::Judge(_) => ScoreParams { chat: Some(chat), ..plain },
        }
    }
}

/// Of an analysis of one set of vectors.
#[derive(Serialize)]
pub struct AnalysisParams<'a> {
    pub analysis: &'a Analysis,
    pub layers: &'a [Layer],
    pub n_layers: usize,
    /// `None` where nothing is drawn at random.
    pub seed: Option<u64>,
    /// `None` where nothing is put into a chat template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chat: Option<Chat>,
}

/// Of an analysis of two sets of vectors.
#[derive(Serialize)]
pub struct AcrossParams<'a> {
    pub across: &'a Analysis,
    /// Of both.
    pub layers: &'a [Vec<Layer>; 2],
    pub n_layers: [usize; 2],
    pub seed: u64,
}

/// What the keys of written stories have besides their writer. Field order, and so the JSON, is fixed.
#[derive(Serialize)]
pub struct WrittenParams<'a> {
    stories: &'a [Item],
    seed: u64,
    max_new_tokens: usize,
    temperature: f64,
    top_p: f64,
    top_k: usize,
    prompt: &'a str,
    system: &'a str,
    /// `None` at a server, which has the template.
    #[serde(skip_serializing_if = "Option::is_none")]
    chat: Option<Chat>,
    /// `None` without a server.
    #[serde(skip_serializing_if = "Option::is_none")]
    protocol: Option<Protocol>,
    /// `None` without further fields of requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<&'a serde_json::Map<String, serde_json::Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    several: Option<&'a Several>,
    reject: &'a Reject,
}

impl<'a> WrittenParams<'a> {
    /// Those of `stories` of `source`, written by a model of the experiment, whose template is told `chat`.
    pub fn here(source: &'a Generate, stories: &'a [Item], seed: u64, chat: Chat) -> WrittenParams<'a> {
        WrittenParams { chat: Some(chat), ..WrittenParams::of(source, stories, seed) }
    }

    /// The same, at a server.
    pub fn at_server(
        source: &'a Generate,
        stories: &'a [Item],
        seed: u64,
        server: &'a Server,
    ) -> WrittenParams<'a> {
        // Who is asked is the model's identity; how patiently changes no story.
        let Server {
            protocol,
            url: _,
            model: _,
            identity: _,
            api_key_env: _,
            parallel: _,
            timeout: _,
            patience: _,
            body,
        } = server;
        let body = Some(body).filter(|body| !body.is_empty());
        WrittenParams { protocol: Some(*protocol), body, ..WrittenParams::of(source, stories, seed) }
    }

    fn of(source: &'a Generate, stories: &'a [Item], seed: u64) -> WrittenParams<'a> {
        // Topics, and how many stories there are of each, are what the stories of a shard say.
        let Generate {
            topics: _,
            per_topic: _,
            max_new_tokens,
            temperature,
            top_p,
            top_k,
            prompt,
            system,
            several,
            reject,
        } = source;
        WrittenParams {
            stories,
            seed,
            max_new_tokens: *max_new_tokens,
            temperature: *temperature,
            top_p: *top_p,
            top_k: *top_k,
            prompt,
            system,
            chat: None,
            protocol: None,
            body: None,
            several: several.as_ref(),
            reject,
        }
    }
}
