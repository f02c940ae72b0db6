//! GGUF files: numbers against gguf-py, tensors and configs against the checkpoints that were converted, the whole of one
//! against transformers (`tests/fixtures/make_gguf.py`); and files of strangers.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use emoflow::lm::gguf::{Gguf, Rows};
use emoflow::lm::{Batch, Checkpoint, Dtype, LanguageModel, Spec, weights};
use serde_json::Value;
use tch::{Device, Kind, Tensor};

use super::{Everything, folder, relative_error};

fn file(name: &str) -> PathBuf {
    folder("gguf").join(name)
}

/// The same bits: unlike `equal` it tells zeros of different signs apart.
fn same_bits(got: &Tensor, want: &Tensor) -> bool {
    let bits = |tensor: &Tensor| tensor.contiguous().view_dtype(Kind::Uint8);
    got.kind() == want.kind() && got.size() == want.size() && bits(got).equal(&bits(want))
}

#[test]
fn every_block_type_is_what_gguf_py_makes_of_it() {
    let blocks = Gguf::open(&file("blocks.gguf")).unwrap();
    let want = Tensor::read_safetensors(file("blocks.safetensors")).unwrap();
    assert_eq!(blocks.tensors().len(), want.len());
    let kinds: Vec<String> = want.iter().map(|(kind, _)| kind.clone()).collect();
    for kind in ["Q4_0", "Q8_0", "Q2_K", "Q6_K", "IQ1_M", "IQ4_XS", "TQ2_0", "MXFP4", "NVFP4", "BF16"] {
        assert!(kinds.contains(&kind.to_string()), "{kind} is not in the fixture");
    }
    for (kind, want) in want {
        let stored = blocks.tensor(&kind).unwrap();
        assert_eq!(stored.kind(), kind);
        let rows = Rows { range: 0..stored.rows(), interleaved: None };
        for to in [Kind::Float, Kind::BFloat16, Kind::Half] {
            let got = blocks.read(stored, &rows, to).unwrap();
            assert!(same_bits(&got, &want.to_kind(to)), "{kind} as {to:?}");
        }
        let some = Rows { range: 1..3, interleaved: None };
        let got = blocks.read(stored, &some, Kind::Float).unwrap();
        assert!(same_bits(&got, &want.narrow(0, 1, 2)), "rows of {kind}");
    }
}

/// What a converted checkpoint cannot say, by its name.
fn not_stored() -> HashMap<String, serde_json::Map<String, Value>> {
    serde_json::from_str(&std::fs::read_to_string(file("not-stored.json")).unwrap()).unwrap()
}

/// The spec of the checkpoint that was converted, with what was not stored as it is read.
fn converted(name: &str, changes: &serde_json::Map<String, Value>) -> Spec {
    let mut config: Value =
        serde_json::from_str(&std::fs::read_to_string(folder(name).join("config.json")).unwrap()).unwrap();
    for (field, value) in changes {
        config[field] = value.clone();
    }
    Spec::from_config(&config).unwrap()
}

#[test]
fn a_converted_checkpoint_gives_its_config_again() {
    for (name, changes) in not_stored() {
        let mut want = converted(&name, &changes);
        let got = Checkpoint::open(&file(&format!("{name}.gguf"))).unwrap().spec().unwrap();
        // A file has one form where checkpoints have two: with towers and without.
        want.architecture = got.architecture.clone();
        want.names = got.names;
        // Matrices have the checkpoint's type, vectors are in float32.
        assert_eq!(got.dtype, want.dtype, "{name}");
        for (layer, (got, want)) in got.layers.iter().zip(&mut want.layers).enumerate() {
            let (Some(got), Some(want)) = (got.attention(), want.attention_mut()) else { continue };
            // Llama 3's scaling is stored as the numbers that follow from it.
            if let (Some(got), Some(want)) = (&got.rope, &mut want.rope) {
                assert_eq!((got.theta, got.pairs), (want.theta, want.pairs), "{name}: layer {layer}");
                if name == "llama" {
                    assert_ne!(got.scaling, want.scaling);
                    want.scaling = got.scaling.clone();
                }
            }
        }
        assert_eq!(got, want, "{name}");
    }
}

#[test]
fn a_converted_checkpoint_gives_its_tensors_again() {
    for (name, changes) in not_stored() {
        let want = converted(&name, &changes);
        let checkpoint = Checkpoint::open(&folder(&name)).unwrap();
        let source = checkpoint.open_weights().unwrap();
        let mut want_tensors = weights::load(&want, &*source, Dtype::F32, Device::Cpu).unwrap();
        weights::take_spare(&want, &mut want_tensors).unwrap();
        let file = Checkpoint::open(&file(&format!("{name}.gguf"))).unwrap();
        let spec = file.spec().unwrap();
        let mut got = weights::load(&spec, &*file.open_weights().unwrap(), Dtype::F32, Device::Cpu).unwrap();
        weights::take_spare(&spec, &mut got).unwrap();
        assert_eq!(got.len(), want_tensors.len(), "{name}");
        for (tensor, want) in want_tensors {
            let got = &got[&tensor];
            let gains =
                name.starts_with("qwen3_5") || name.starts_with("gemma") && !name.starts_with("gemma4");
            let plus_one =
                gains && tensor.ends_with("norm.weight") && !tensor.ends_with("linear_attn.norm.weight");
            match plus_one || tensor.ends_with("A_log") {
                // Computed in float32 and back: one added and subtracted, or a logarithm of an exponential.
                true => assert!((got - want).abs().max().double_value(&[]) < 1e-6, "{name}: {tensor}"),
                false => assert!(same_bits(got, &want), "{name}: {tensor}"),
            }
        }
    }
}

/// The residuals of the checkpoint that was converted, where all of its config is stored.
#[test]
fn a_converted_checkpoint_computes_what_it_computed() {
    for (name, _) in not_stored().into_iter().filter(|(_, changes)| changes.is_empty()) {
        let load = |path: PathBuf| -> LanguageModel {
            let mut checkpoint = Checkpoint::open(&path).unwrap();
            if path.is_file() {
                checkpoint = checkpoint_with_tokenizer(&path, &folder(&name));
            }
            LanguageModel::load(&checkpoint, Dtype::F32, Device::Cpu).unwrap()
        };
        let (want, got) = (load(folder(&name)), load(file(&format!("{name}.gguf"))));
        let ids: Vec<i64> = (0..60).map(|i| i * 37 % want.spec.d_vocab as i64).collect();
        let resid = |model: &LanguageModel| {
            model.forward(&Batch::new(std::slice::from_ref(&ids)).unwrap(), &mut [], None).unwrap()
        };
        let error = relative_error(&resid(&got), &resid(&want));
        assert!(error < 1e-5, "{name}: {error:.1e}");
    }
}

fn checkpoint_with_tokenizer(path: &Path, tokenizer: &Path) -> Checkpoint {
    use emoflow::lm::checkpoint::{Beside, TokenizerFiles};
    let tokenizer = Some(TokenizerFiles::open(tokenizer, &[]).unwrap());
    Checkpoint::open_with(path, Beside { tokenizer, ..Beside::default() }).unwrap()
}

#[test]
fn a_quantised_file_is_read_as_transformers_reads_it() {
    let want: HashMap<String, Tensor> =
        Tensor::read_safetensors(file("llama-q8_0.safetensors")).unwrap().into_iter().collect();
    let path = file("llama-q8_0.gguf");
    let checkpoint = checkpoint_with_tokenizer(&path, &folder("llama-gqa"));
    let spec = checkpoint.spec().unwrap();
    assert_eq!(
        checkpoint.dequantised_from(&spec).unwrap(),
        "F16 (7 tensors), F32 (7), Q8_0 (6), Q4_1 (5), Q5_0 (4)"
    );
    let tensors =
        weights::load(&spec, &*checkpoint.open_weights().unwrap(), Dtype::F32, Device::Cpu).unwrap();
    let in_parts = Checkpoint::open(&file("split-00001-of-00003.gguf")).unwrap();
    assert_eq!((in_parts.weights().len(), in_parts.files().len()), (3, 3));
    let parts = weights::load(&spec, &*in_parts.open_weights().unwrap(), Dtype::F32, Device::Cpu).unwrap();
    assert_eq!(tensors.len(), want.keys().filter(|name| name.starts_with("tensor.")).count());
    for (name, tensor) in &tensors {
        assert!(same_bits(tensor, &want[&format!("tensor.{name}")]), "{name}");
        assert!(same_bits(&parts[name], tensor), "{name}");
    }
    let model = LanguageModel::load(&checkpoint, Dtype::F32, Device::Cpu).unwrap();
    let ids: Vec<i64> = (&want["ids"]).try_into().unwrap();
    let mut each = Everything::default();
    let last = model.forward(&Batch::new(&[ids]).unwrap(), &mut [&mut each], None).unwrap();
    for (layer, resid) in each.0.iter().enumerate() {
        let error = relative_error(&resid.get(0), &want["resid_post"].get(layer as i64));
        assert!(error < 1e-5, "layer {layer}: {error:.1e}");
    }
    assert!(relative_error(&model.logits(&last).get(0), &want["logits"]) < 1e-5);
}

#[test]
fn files_of_strangers_are_errors_not_panics() {
    let whole = std::fs::read(file("llama-q8_0.gguf")).unwrap();
    let path = tempfile::NamedTempFile::new().unwrap();
    let read = |bytes: &[u8]| -> anyhow::Result<()> {
        std::fs::write(path.path(), bytes)?;
        let checkpoint = Checkpoint::open(path.path())?;
        let spec = checkpoint.spec()?;
        weights::load(&spec, &*checkpoint.open_weights()?, Dtype::F32, Device::Cpu).map(drop)
    };
    read(&whole).unwrap();
    for cut in (0..whole.len()).step_by(whole.len() / 200) {
        assert!(read(&whole[..cut]).is_err(), "cut to {cut}");
    }
    // Counts, lengths, types and offsets that are absurd.
    for at in 0..2500 {
        let mut bytes = whole.clone();
        bytes[at] = 0xff;
        let _ = read(&bytes);
    }
    let error = |from: &str, to: &str| {
        let at = whole.windows(from.len()).position(|window| window == from.as_bytes()).unwrap();
        let mut bytes = whole.clone();
        bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
        format!("{:#}", read(&bytes).unwrap_err())
    };
    assert!(error("llama", "mamba").contains("architecture `mamba` is not read from GGUF files"));
    assert!(error("llama.block_count", "llama.block_cxunt").contains("`llama.block_count` is missing"));
    assert!(error("llama.vocab_size", "llama.vocab_sizf").contains("not understood, and it may change"));
    assert!(error("blk.0.attn_q.weight", "blk.0.attn_x.weight").contains("blk.0.attn_x.weight"));
}

#[test]
fn a_file_that_is_cut_while_it_is_open_is_an_error() {
    let path = tempfile::NamedTempFile::new().unwrap();
    std::fs::copy(file("llama-q8_0.gguf"), path.path()).unwrap();
    let checkpoint = Checkpoint::open(path.path()).unwrap();
    let (spec, source) = (checkpoint.spec().unwrap(), checkpoint.open_weights().unwrap());
    path.as_file().set_len(30_000).unwrap();
    let error = weights::load(&spec, &*source, Dtype::F32, Device::Cpu).unwrap_err();
    assert!(format!("{error:#}").contains("has become shorter"), "{error:#}");
}

#[test]
fn what_is_no_language_model_is_refused_for_what_it_is() {
    for (name, said) in [("mmproj", "sees or hears (mmproj)"), ("adapter", "holds an adapter, not a model")] {
        let error = format!("{:#}", Checkpoint::open(&file(&format!("{name}.gguf"))).unwrap_err());
        assert!(error.contains(said), "{error}");
    }
}
