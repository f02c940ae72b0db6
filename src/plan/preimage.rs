//! Pre-images of keys: the parameters of each stage, inputs, model and numerics, as JSON. Independent of nodes.

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

/// The pre-image of a key. The field order, and so the JSON, is fixed.
#[derive(Serialize)]
struct Preimage<'a, P> {
    stage: &'a str,
    version: u32,
    params: &'a P,
    inputs: &'a [(&'static str, Key)],
    model: Option<&'a Digest>,
    numerics: Option<Numerics>,
}

/// The key of the result of `stage` on `inputs` with `params`, and its pre-image as JSON.
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
    preimage.shrink_to_fit(); // a plan may hold ten thousand of them
    (Digest::of(preimage.as_bytes()), preimage)
}

/// Settings that change low-order bits without changing what is computed.
#[derive(Serialize)]
pub struct Numerics {
    pub dtype: Dtype,
    /// Dtype of activations and arithmetic.
    pub compute_dtype: Dtype,
    pub device: &'static str,
    /// The compute backend: see [`crate::lm::Backend::name`].
    pub backend: &'static str,
    /// Version of the forward pass: see [`crate::lm::decoder::VERSION`].
    pub forward: u32,
    /// Maximum number of tokens in a batch; `None` if a batch is a shard.
    pub batch_tokens: Option<usize>,
}

/// Parameters of stories from templates.
#[derive(Serialize)]
pub struct TemplateParams<'a> {
    pub stories: Vec<(&'a Item, &'a str)>,
}

/// Parameters of stories from files. They do not contain paths: the same files give the same stories wherever they are.
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
    /// The parameters of the stories in `range` of `read`, whose files are `files`.
    pub fn of(read: &'a Files, files: Vec<FileParams<'a>>, range: Range<usize>) -> FilesParams<'a> {
        // Keys contain the contents of files, not their paths; an empty row either gives no story or ends the run.
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

/// Parameters of one story file.
#[derive(Serialize)]
pub struct FileParams<'a> {
    pub content: Digest,
    pub format: &'static str,
    /// Its name, if that is the label of its rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<&'a str>,
}

/// Parameters of the activations of one shard at one layer.
#[derive(Serialize)]
pub struct ActivationParams {
    pub layer: Layer,
    pub from_token: usize,
    pub wrap: Wrap,
    /// `None` if no chat template is used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chat: Option<Chat>,
    pub short: Short,
    pub long: Long,
    pub store_dtype: StoreDtype,
    /// For neutral text: the number of tokens of each text that are read one by one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<usize>,
}

impl ActivationParams {
    /// The parameters at one layer. `chat`: settings for the chat template.
    pub fn of(
        params: &activations::Params,
        layer: Layer,
        chat: Chat,
        tokens: Option<usize>,
    ) -> ActivationParams {
        // The batch limit is part of the numerics.
        let activations::Params { from_token, wrap, short, long, batch_tokens: _, store_dtype } = *params;
        let chat = (wrap != Wrap::Raw).then_some(chat);
        ActivationParams { layer, from_token, wrap, chat, short, long, store_dtype, tokens }
    }
}

/// Parameters of the components of neutral text at one layer.
#[derive(Serialize)]
pub struct NeutralParams {
    pub denoise: Denoise,
}

impl NeutralParams {
    /// The vector parameters that affect the components.
    pub fn of(params: &vectors::Params) -> NeutralParams {
        // `tokens` is part of the parameters of the activations.
        let vectors::Params { center: _, denoise, tokens: _, normalize: _, weights: _ } = *params;
        NeutralParams { denoise }
    }
}

/// Parameters of the vectors at one layer.
#[derive(Serialize)]
pub struct VectorParams<'a> {
    pub emotions: &'a [String],
    pub center: Center,
    pub denoise: Denoise,
    pub normalize: bool,
    #[serde(skip_serializing_if = "Equal::is_stories")]
    pub weights: Equal,
    /// Set for vectors that only check the numerics of others: if nothing can be computed, the artifact holds the
    /// reason.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub is_check: bool,
}

impl<'a> VectorParams<'a> {
    /// The parameters of the vectors of `emotions`.
    pub fn of(params: &vectors::Params, emotions: &'a [String], is_check: bool) -> VectorParams<'a> {
        let vectors::Params { center, denoise, tokens: _, normalize, weights } = *params;
        VectorParams { emotions, center, denoise, normalize, weights, is_check }
    }
}

/// Parameters of transcripts read from files.
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
    /// The parameters of the transcripts in `range` of files with these digests.
    pub fn of(read: &'a texts::Files, digests: &[Digest], range: Range<usize>) -> TextParams<'a> {
        // File names are part of the result: they tell where a transcript is.
        let texts::Files { paths, label, event, broken: _, labels } = read;
        let name = |path: &PathBuf| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let files = digests.iter().copied().zip(paths.iter().map(name)).collect();
        let (label, event) = (label.as_deref(), event.as_deref());
        TextParams { files, label, event, labels: labels.as_ref(), first: range.start, count: range.len() }
    }
}

/// Parameters of texts that are read token by token.
#[derive(Serialize)]
pub struct ReadingParams<'a> {
    pub layers: &'a [Layer],
    pub random: usize,
    /// `None` if nothing is random.
    pub seed: Option<u64>,
    /// `None` for conversations.
    pub wrap: Option<Wrap>,
    /// `None` if no chat template is used.
    pub chat: Option<Chat>,
}

impl<'a> ReadingParams<'a> {
    /// The parameters at `layers`. `turns`: whether the texts are conversations.
    pub fn of(params: &readings::Params, layers: &'a [Layer], turns: bool) -> ReadingParams<'a> {
        let readings::Params { random, seed, wrap, chat } = *params;
        let (seed, wrap) = ((random > 0).then_some(seed), (!turns).then_some(wrap));
        ReadingParams { layers, random, seed, wrap, chat: (wrap != Some(Wrap::Raw)).then_some(chat) }
    }
}

/// Parameters of the texts that are generated under steering for one case.
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
    /// The parameters of a case that is steered at `layers`.
    pub fn of(
        writing: &'a Writing,
        case: &'a Asked,
        layers: &'a [Layer],
        seed: u64,
        chat: Chat,
    ) -> RolloutParams<'a> {
        let Writing { cases: _, steering, texts } = writing;
        // Whether the case is a control, and its other options, do not affect the texts. The name is included because
        // seeds depend on it.
        let Asked { name, control: _, system, turns, replies, answer, shown: _, hidden: _, options: _ } =
            case;
        RolloutParams { case: name, system, turns, replies, answer, layers, steering, texts, seed, chat }
    }
}

/// Parameters of such texts as conversations.
#[derive(Serialize)]
pub struct SampleParams<'a> {
    pub system: &'a str,
    pub turns: &'a [String],
    pub replies: &'a [String],
    /// Maximum number of texts per cell.
    pub most: usize,
}

impl<'a> SampleParams<'a> {
    /// The parameters of the first texts of a case in each cell.
    pub fn of(case: &'a Asked, most: usize) -> SampleParams<'a> {
        // The answer is already part of the texts.
        let Asked { name: _, control: _, system, turns, replies, answer: _, shown: _, hidden: _, options: _ } =
            case;
        SampleParams { system, turns, replies, most }
    }
}

/// Parameters of the scores of the texts of one case.
#[derive(Serialize)]
pub struct ScoreParams<'a> {
    pub scorer: &'a Scorer,
    /// Only for a judge that is a model of the experiment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chat: Option<Chat>,
    /// Only for a judge on a server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<&'a serde_json::Map<String, serde_json::Value>>,
    /// Only for programs: the shown tests and the hidden tests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tests: Option<[&'a str; 2]>,
}

impl<'a> ScoreParams<'a> {
    /// The parameters of scoring texts of `case` with `scorer`. `chat`: settings for the chat template of a judge.
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

/// Parameters of an analysis of one set of vectors.
#[derive(Serialize)]
pub struct AnalysisParams<'a> {
    pub analysis: &'a Analysis,
    pub layers: &'a [Layer],
    pub n_layers: usize,
    /// `None` if nothing is random.
    pub seed: Option<u64>,
    /// `None` if no chat template is used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chat: Option<Chat>,
}

/// Parameters of an analysis of two sets of vectors.
#[derive(Serialize)]
pub struct AcrossParams<'a> {
    pub across: &'a Analysis,
    /// The layers of each set.
    pub layers: &'a [Vec<Layer>; 2],
    pub n_layers: [usize; 2],
    pub seed: u64,
}

/// Parameters of generated stories; the writer is a separate field of the pre-image. The field order, and so the JSON,
/// is fixed.
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
    /// `None` for a server, which applies the template itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    chat: Option<Chat>,
    /// `None` without a server.
    #[serde(skip_serializing_if = "Option::is_none")]
    protocol: Option<Protocol>,
    /// `None` if requests have no additional fields.
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<&'a serde_json::Map<String, serde_json::Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    several: Option<&'a Several>,
    reject: &'a Reject,
}

impl<'a> WrittenParams<'a> {
    /// The parameters of `stories` of `source`, generated by a model of the experiment. `chat`: settings for its chat
    /// template.
    pub fn here(source: &'a Generate, stories: &'a [Item], seed: u64, chat: Chat) -> WrittenParams<'a> {
        WrittenParams { chat: Some(chat), ..WrittenParams::of(source, stories, seed) }
    }

    /// The parameters of `stories` of `source`, generated on a server.
    pub fn at_server(
        source: &'a Generate,
        stories: &'a [Item],
        seed: u64,
        server: &'a Server,
    ) -> WrittenParams<'a> {
        // The server's model is identified by the pre-image's model field; parallelism, timeouts and retries do not
        // change the stories.
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
        // Topics and the number of stories per topic are contained in the list of stories of a shard.
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
