//! Reads `quantization_config` and `quantization` of a `config.json` as a [`Quantization`], and refuses unsupported
//! methods.

use super::config::Fields;
use crate::lm::quantization::{Bnb4Table, GptqZeros, Quantization};
use anyhow::{Result, bail, ensure};
use serde_json::Value;

/// A checkpoint with an unsupported quantisation, and which one to use instead.
#[derive(Debug)]
pub struct Refused {
    /// The method's common name.
    method: String,
    /// Likely name of the unquantised repository, guessed from names.
    likely: Option<String>,
}

impl Refused {
    /// For a checkpoint quantised with `method`.
    pub fn new(method: impl Into<String>) -> Refused {
        Refused { method: method.into(), likely: None }
    }

    /// Adds the likely name of the unquantised repository, from `origin` (the repository or folder of this one) and
    /// `source` (the base model named in its `config.json`).
    pub fn at(self, origin: Option<&str>, source: Option<&str>) -> Refused {
        Refused { likely: unquantised(origin, source), ..self }
    }
}

impl std::error::Error for Refused {}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "this checkpoint's weights are quantised with {}, which is not read. Use the unquantised \
             repository of the same model",
            self.method
        )?;
        match &self.likely {
            Some(likely) => write!(f, ", likely `{likely}`"),
            None => Ok(()),
        }
    }
}

/// How the weights are quantised; `None`: they are not.
///
/// # Errors
/// [`Refused`] for an unsupported method; a field that is missing or out of range.
pub fn quantization(f: &Fields) -> Result<Option<Quantization>> {
    // MLX writes both fields, the second one for transformers.
    if f.get("quantization").is_some() {
        return Err(Refused::new("MLX").into());
    }
    // transformers looks into the text part if the outer config has no such field.
    let whole = f.table("quantization_config")?;
    let inner = || match f.get("text_config").is_some_and(Value::is_object) {
        true => f.table("text_config")?.map_or(Ok(None), |text| text.table("quantization_config")),
        false => Ok(None),
    };
    let Some(q) = whole.map_or_else(inner, |q| Ok(Some(q)))? else { return Ok(None) };
    let bnb = |bits: &str| q.switch(&format!("load_in_{bits}"), false);
    let (bnb4, bnb8) = (bnb("4bit")?, bnb("8bit")?);
    let method = match q.word("quant_method")? {
        _ if bnb4 || bnb8 => "bitsandbytes",
        Some(method) => method,
        None if q.get("bits").is_some() && q.get("group_size").is_some() => "mlx",
        None => bail!(Refused::new("a method that `quantization_config` does not name")),
    };
    let read = match method {
        "bitsandbytes" => bitsandbytes(&q, bnb4, bnb8)?,
        "fp8" => fp8(&q)?,
        "gptq" => gptq(&q)?,
        "awq" => awq(&q)?,
        other => bail!(Refused::new(called(other, q.word("quant_algo")?))),
    };
    Ok(Some(read))
}

fn bitsandbytes(q: &Fields, bnb4: bool, bnb8: bool) -> Result<Quantization> {
    ensure!(
        bnb4 != bnb8,
        "{}: exactly one of `load_in_4bit` and `load_in_8bit` must be true",
        q.name("quant_method")
    );
    if bnb8 {
        return Ok(Quantization::BnbInt8);
    }
    let table = match q.word("bnb_4bit_quant_type")?.unwrap_or("fp4") {
        "nf4" => Bnb4Table::Nf4,
        "fp4" => Bnb4Table::Fp4,
        other => bail!(Refused::new(format!("bitsandbytes' {other}"))),
    };
    Ok(Quantization::Bnb4 { table, double: q.switch("bnb_4bit_use_double_quant", false)? })
}

/// Block size: 128 by 128 where the config has no such field; one scale per matrix where it is null.
fn fp8(q: &Fields) -> Result<Quantization> {
    if let Some(scales) = q.word("scale_fmt")?.filter(|scales| *scales != "float") {
        bail!(Refused::new(format!("FP8 with {scales} scales")));
    }
    if let Some(experts) = q.word("expert_dtype")?.filter(|experts| *experts != "fp8") {
        bail!(Refused::new(format!("FP8 with experts in {experts}")));
    }
    let block = match q.has("weight_block_size") {
        false => Some([128, 128]),
        true if q.get("weight_block_size").is_none() => None,
        true => match q.sizes("weight_block_size")?.as_slice() {
            [rows, columns] => Some([*rows, *columns]),
            other => bail!("{} has {} entries, not 2", q.name("weight_block_size"), other.len()),
        },
    };
    Ok(Quantization::Fp8 { block })
}

fn gptq(q: &Fields) -> Result<Quantization> {
    // `checkpoint_format` is the newer name; `is_marlin_format` is the oldest one, for another layout.
    let format = q.word("checkpoint_format")?.or(q.word("format")?).unwrap_or("gptq").to_lowercase();
    let zeros = match format.as_str() {
        "gptq" if !q.switch("is_marlin_format", false)? => GptqZeros::LessOne,
        "gptq_v2" => GptqZeros::Plain,
        "gptq" => bail!(Refused::new("GPTQ in the layout marlin")),
        other => bail!(Refused::new(format!("GPTQ in the layout {other}"))),
    };
    // Per-module rules of GPTQModel: those that begin with `-:` name modules that are not quantised.
    if let Some(rules) = q.table("dynamic")?
        && rules.keys().any(|rule| !rule.starts_with("-:"))
    {
        bail!(Refused::new("GPTQ with settings of their own for some modules (`dynamic`)"));
    }
    let bits = bits(q, None, &[2, 3, 4, 8])?;
    // AutoGPTQ subtracts 1 from each zero point; GPTQModel subtracts it from whole words, which differs for 3 bits.
    if (bits, zeros) == (3, GptqZeros::LessOne) {
        bail!(Refused::new("GPTQ of 3 bits in the layout gptq, whose writers disagree (gptq_v2 is read)"));
    }
    Ok(Quantization::Gptq { bits, group: group(q)?, by_activation: q.switch("desc_act", false)?, zeros })
}

fn awq(q: &Fields) -> Result<Quantization> {
    let format = q.word("version")?.or(q.word("format")?).unwrap_or("gemm").to_lowercase();
    let backend = q.word("backend")?.unwrap_or("auto");
    if format != "gemm" || backend == "llm-awq" {
        let layout = if backend == "llm-awq" { backend } else { &format };
        bail!(Refused::new(format!("AWQ in the layout {layout}")));
    }
    if !q.switch("zero_point", true)? {
        bail!(Refused::new("AWQ without zero points"));
    }
    Ok(Quantization::Awq { bits: bits(q, Some(4), &[4])?, group: group(q)? })
}

fn bits(q: &Fields, default: Option<usize>, read: &[usize]) -> Result<u8> {
    // AutoAWQ's own file names it `w_bit`.
    let key = if q.has("w_bit") { "w_bit" } else { "bits" };
    let bits = q.size(key, default)?;
    ensure!(read.contains(&bits), "{} is {bits}; one of {read:?} is needed", q.name(key));
    Ok(u8::try_from(bits)?)
}

/// Group size: 128 where the config has no such field, as in transformers; -1 means the whole row.
fn group(q: &Fields) -> Result<Option<usize>> {
    let key = if q.has("q_group_size") { "q_group_size" } else { "group_size" };
    match q.get(key).and_then(Value::as_i64) {
        Some(-1) => Ok(None),
        _ => q.size(key, 128).map(Some),
    }
}

/// A method's common name; `algorithm` is the additional field of NVIDIA's ModelOpt.
fn called(method: &str, algorithm: Option<&str>) -> String {
    let known = match method.to_lowercase().as_str() {
        "nvfp4" => "NVFP4",
        "mxfp4" => "MXFP4",
        "mxfp8" => "MXFP8",
        "mlx" => "MLX",
        "hqq" => "HQQ",
        "eetq" => "EETQ",
        "aqlm" => "AQLM",
        "vptq" => "VPTQ",
        "spqr" => "SpQR",
        "higgs" => "HIGGS",
        "bitnet" => "BitNet",
        "quanto" => "Quanto",
        "quark" => "AMD Quark",
        "torchao" => "torchao",
        "fbgemm_fp8" => "FBGEMM FP8",
        "auto-round" | "autoround" | "intel/auto-round" => "AutoRound",
        "gguf" => "GGUF",
        "modelopt" | "modelopt_fp4" => match algorithm {
            Some(algorithm) => return format!("{algorithm} by NVIDIA ModelOpt"),
            None => "NVIDIA ModelOpt",
        },
        _ => method,
    };
    known.to_string()
}

/// Detects a quantised checkpoint by its tensor names if its `config.json` does not mention it: NVIDIA's ModelOpt,
/// among others, leaves the config unchanged.
pub fn shown_by_tensors<'a>(names: impl Iterator<Item = &'a str>) -> Option<Refused> {
    let shows = |name: &str| match name.rsplit_once('.').map_or(name, |(_, last)| last) {
        "weight_scale_2" => Some("NVFP4 by NVIDIA ModelOpt"),
        "input_scale" | "weight_scale" | "k_scale" | "v_scale" => {
            Some("FP8 by NVIDIA ModelOpt or a kin of it")
        }
        "weight_scale_inv" => Some("FP8"),
        "weight_packed" => Some("compressed-tensors"),
        "qweight" | "qzeros" => Some("GPTQ or AWQ"),
        "SCB" | "absmax" => Some("bitsandbytes"),
        "biases" => Some("MLX"),
        _ => None,
    };
    // The most specific name first: FP4 checkpoints also have the tensor names of FP8.
    let shown: Vec<&str> = names.filter_map(shows).collect();
    shown.iter().find(|method| method.contains("NVFP4")).or(shown.first()).map(|method| Refused::new(*method))
}

/// Parts of a repository's name that only quantised copies have.
const PARTS: &[&str] = &[
    "fp8",
    "fp4",
    "nvfp4",
    "mxfp4",
    "mxfp8",
    "int2",
    "int3",
    "int4",
    "int8",
    "2bit",
    "3bit",
    "4bit",
    "5bit",
    "6bit",
    "8bit",
    "gptq",
    "awq",
    "bnb",
    "mlx",
    "gguf",
    "hqq",
    "eetq",
    "aqlm",
    "vptq",
    "exl2",
    "exl3",
    "torchao",
    "autoround",
    "dwq",
    "dynamic",
    "block",
    "unsloth",
    "quantized",
    "w4a16",
    "w8a8",
    "w8a16",
    "w4a8",
    "g32",
    "g64",
    "g128",
    "32g",
    "64g",
    "128g",
    "q4",
    "q8",
    "q6",
    "q5",
    "q3",
    "q2",
    "marlin",
    "gemm",
    "quant",
];

/// Accounts, in lower case, that publish quantised copies of other organisations' models.
const COPIERS: &[&str] = &[
    "mlx-community",
    "lmstudio-community",
    "thebloke",
    "nvidia",
    "redhatai",
    "neuralmagic",
    "nm-testing",
    "hugging-quants",
    "casperhansen",
    "solidrust",
    "quanttrio",
    "qwenlm-quants",
    "isTA-daslab",
    "bartowski",
    "cyankiwi",
    "cpatonn",
    "intel",
    "amd",
    "modelcloud",
    "kaitchup",
    "openvino",
    "techxgenus",
    "jart25",
    "axera-tech",
];

/// Organisations, by the first letters of their models' names, in lower case.
const MAKERS: &[(&str, &str)] = &[
    ("qwen", "Qwen"),
    ("gemma", "google"),
    ("llama", "meta-llama"),
    ("meta-llama", "meta-llama"),
    ("mistral", "mistralai"),
    ("ministral", "mistralai"),
    ("mixtral", "mistralai"),
    ("magistral", "mistralai"),
    ("phi", "microsoft"),
    ("smollm", "HuggingFaceTB"),
    ("olmo", "allenai"),
    ("granite", "ibm-granite"),
    ("pythia", "EleutherAI"),
    ("gpt2", "openai-community"),
];

/// The likely name of the unquantised repository of `origin` (`owner/name`, or a folder's name).
fn unquantised(origin: Option<&str>, source: Option<&str>) -> Option<String> {
    // A path on someone's machine is not a repository.
    let source =
        source.filter(|s| s.split('/').count() == 2 && !s.starts_with(['/', '.', '~']) && plain(s).is_none());
    let Some((owner, name)) = origin.and_then(|origin| {
        let (owner, name) = origin.rsplit_once('/').map_or((None, origin), |(o, n)| (Some(o), n));
        Some((owner, plain(name)?))
    }) else {
        return source.map(String::from);
    };
    if let Some(source) = source.filter(|s| s.to_lowercase().ends_with(&format!("/{}", name.to_lowercase())))
    {
        return Some(source.to_string());
    }
    let own = owner.filter(|owner| !COPIERS.iter().any(|copier| copier.eq_ignore_ascii_case(owner)));
    let maker = || MAKERS.iter().find(|(letters, _)| name.to_lowercase().starts_with(letters)).map(|m| m.1);
    Some(match own.or_else(maker) {
        Some(owner) => format!("{owner}/{name}"),
        None => name.to_string(),
    })
}

/// `name` without the suffixes of a quantised copy; `None` if it has none.
fn plain(name: &str) -> Option<String> {
    let mut rest = name;
    while let Some((before, part)) = rest.rsplit_once(['-', '.', '_'])
        && PARTS.contains(&part.to_lowercase().as_str())
    {
        rest = before;
    }
    (rest.len() < name.len()).then(|| rest.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(config: &Value) -> Result<Option<Quantization>> {
        quantization(&Fields::new(config, &[])?)
    }

    /// Spelled as in published checkpoints of each method (Qwen3-8B-FP8, Ministral-3-FP8, Qwen3-4B-GPTQ-Int4,
    /// Llama-3.1-8B-GPTQ, Qwen2.5-7B-AWQ, unsloth's bnb-4bit).
    #[test]
    fn methods_that_have_a_reader_are_told_apart() {
        let gptq =
            |bits, group, by_activation, zeros| Quantization::Gptq { bits, group, by_activation, zeros };
        for (config, want) in [
            (
                json!({"quant_method": "fp8", "activation_scheme": "dynamic", "fmt": "e4m3",
                       "weight_block_size": [128, 64]}),
                Quantization::Fp8 { block: Some([128, 64]) },
            ),
            (json!({"quant_method": "fp8"}), Quantization::Fp8 { block: Some([128, 128]) }),
            (
                json!({"quant_method": "fp8", "activation_scheme": "static", "weight_block_size": null}),
                Quantization::Fp8 { block: None },
            ),
            (
                json!({"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": false, "sym": true,
                       "checkpoint_format": "gptq", "dynamic": {"-:.*\\.mlp\\.gate$": {}}}),
                gptq(4, Some(128), false, GptqZeros::LessOne),
            ),
            (
                json!({"quant_method": "gptq", "bits": 8, "group_size": -1, "desc_act": true, "format": "gptq_v2"}),
                gptq(8, None, true, GptqZeros::Plain),
            ),
            (
                json!({"quant_method": "awq", "bits": 4, "group_size": 64, "version": "GEMM", "zero_point": true}),
                Quantization::Awq { bits: 4, group: Some(64) },
            ),
            (
                json!({"_load_in_4bit": true, "_load_in_8bit": false, "load_in_4bit": true, "load_in_8bit": false,
                       "quant_method": "bitsandbytes", "bnb_4bit_quant_type": "nf4",
                       "bnb_4bit_use_double_quant": true}),
                Quantization::Bnb4 { table: Bnb4Table::Nf4, double: true },
            ),
            (json!({"quant_method": "bitsandbytes", "load_in_8bit": true}), Quantization::BnbInt8),
        ] {
            assert_eq!(read(&json!({ "quantization_config": config })).unwrap(), Some(want), "{config}");
        }
        assert_eq!(read(&json!({"quantization_config": null})).unwrap(), None);
    }

    #[test]
    fn other_methods_are_refused_by_their_names() {
        let mlx = json!({"quantization": {"group_size": 64, "bits": 4}, "quantization_config": {"bits": 4, "group_size": 64}});
        let of = |config: Value| json!({ "quantization_config": config });
        for (config, method) in [
            (mlx, "MLX"),
            (of(json!({"group_size": 64, "bits": 4, "mode": "affine"})), "MLX"),
            (
                of(json!({"quant_method": "compressed-tensors", "format": "pack-quantized"})),
                "compressed-tensors",
            ),
            (of(json!({"quant_method": "modelopt", "quant_algo": "NVFP4"})), "NVFP4"),
            (of(json!({"quant_method": "torchao"})), "torchao"),
            (of(json!({"quant_method": "gptq", "bits": 4, "is_marlin_format": true})), "marlin"),
            (
                of(json!({"quant_method": "gptq", "bits": 4, "dynamic": {"+:.*mlp.*": {"bits": 8}}})),
                "`dynamic`",
            ),
            (of(json!({"quant_method": "awq", "version": "gemv"})), "gemv"),
            (of(json!({"quant_method": "awq", "backend": "llm-awq"})), "llm-awq"),
            (of(json!({"quant_method": "a-new-one"})), "a-new-one"),
            (of(json!({"scheme": 1})), "does not name"),
        ] {
            let error = read(&config).expect_err(method);
            assert!(error.is::<Refused>() && error.to_string().contains(method), "{method}: {error}");
        }
    }

    #[test]
    fn tensors_show_a_method_that_the_config_does_not() {
        let shown = |names: &[&str]| shown_by_tensors(names.iter().copied()).map(|refused| refused.method);
        let q = "model.layers.0.self_attn.q_proj";
        let names = [format!("{q}.weight_scale"), format!("{q}.weight_scale_2"), format!("{q}.input_scale")];
        assert_eq!(shown(&names.each_ref().map(String::as_str)).unwrap(), "NVFP4 by NVIDIA ModelOpt");
        assert!(shown(&[&names[2]]).unwrap().starts_with("FP8"));
        assert_eq!(shown(&["model.layers.0.self_attn.q_proj.weight", "model.norm.weight"]), None);
    }

    #[test]
    fn the_unquantised_repository_is_guessed_from_names() {
        for (origin, source, likely) in [
            (Some("Qwen/Qwen3-8B-FP8"), None, Some("Qwen/Qwen3-8B")),
            (Some("Qwen/Qwen2.5-7B-Instruct-GPTQ-Int4"), None, Some("Qwen/Qwen2.5-7B-Instruct")),
            (Some("mlx-community/Qwen3-8B-4bit-DWQ"), None, Some("Qwen/Qwen3-8B")),
            (
                Some("unsloth/Llama-3.2-1B-Instruct-unsloth-bnb-4bit"),
                None,
                Some("unsloth/Llama-3.2-1B-Instruct"),
            ),
            (Some("TheBloke/MythoMax-L2-13B-AWQ"), None, Some("MythoMax-L2-13B")),
            (Some("nvidia/Llama-3.1-8B-Instruct-FP8"), None, Some("meta-llama/Llama-3.1-8B-Instruct")),
            (Some("RedHatAI/gemma-2-9b-it-quantized.w4a16"), None, Some("google/gemma-2-9b-it")),
            (Some("me/Tuned-AWQ"), Some("you/tuned"), Some("you/tuned")),
            (Some("models/own"), Some("google/gemma-2-2b"), Some("google/gemma-2-2b")),
            (Some("my-model-awq"), Some("/home/me/models/x"), Some("my-model")),
            (Some("own"), Some("/home/me"), None),
            (None, None, None),
        ] {
            assert_eq!(unquantised(origin, source).as_deref(), likely, "{origin:?} {source:?}");
        }
    }
}
