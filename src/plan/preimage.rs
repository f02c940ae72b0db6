//! What keys are digests of: the parameters of each stage, inputs, model and numerics, as JSON. Knows no node.

use std::collections::BTreeMap;

use serde::Serialize;

use super::key::{Digest, Key};
use crate::lm::{Chat, Dtype, Layer};
use crate::stages::activations::{Long, Short, StoreDtype, Wrap};
use crate::stages::analysis::Analysis;
use crate::stages::stories::{Columns, Generate, Item, Protocol, Reject, Server, Several};
use crate::stages::vectors::{Center, Denoise, Equal};

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
    let preimage = serde_json::to_string(&preimage).expect("structs of strings and numbers");
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
}

/// Of the components of neutral text at one layer.
#[derive(Serialize)]
pub struct NeutralParams {
    pub denoise: Denoise,
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
        let body = Some(&server.body).filter(|body| !body.is_empty());
        WrittenParams { protocol: Some(server.protocol), body, ..WrittenParams::of(source, stories, seed) }
    }

    fn of(source: &'a Generate, stories: &'a [Item], seed: u64) -> WrittenParams<'a> {
        WrittenParams {
            stories,
            seed,
            max_new_tokens: source.max_new_tokens,
            temperature: source.temperature,
            top_p: source.top_p,
            top_k: source.top_k,
            prompt: &source.prompt,
            system: &source.system,
            chat: None,
            protocol: None,
            body: None,
            several: source.several.as_ref(),
            reject: &source.reject,
        }
    }
}
