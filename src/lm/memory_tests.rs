//! Memory requirements of models, compared with hand calculations.

use super::*;
use crate::lm::quantization::Quantization;
use serde_json::json;

/// Llama-3.1-8B, whose model card gives 8,030,261,248 parameters.
fn llama_8b() -> Spec {
    Spec::from_config(&json!({
        "architectures": ["LlamaForCausalLM"], "hidden_size": 4096, "intermediate_size": 14336,
        "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 8, "vocab_size": 128256,
        "max_position_embeddings": 131072, "torch_dtype": "bfloat16"
    }))
    .unwrap()
}

fn free(gb: f64) -> FreeMemory {
    FreeMemory { bytes: (gb * 1e9) as u64, from: "a made-up machine".into() }
}

const PASSES: Work = Work::Passes { batch_tokens: 8192, waiting: 0 };

#[test]
fn states_take_what_they_take_however_long_a_text_is() {
    // Qwen3.5-0.8B: 18 of 24 layers have 16 memories of 128 x 128 in fp32 and 3 tokens before the convolution; 6 have 2
    // heads of 256, keys and values.
    let spec = Spec::from_config(&json!({
        "architectures": ["Qwen3_5ForCausalLM"], "hidden_size": 1024, "intermediate_size": 3584,
        "num_attention_heads": 8, "num_hidden_layers": 24, "num_key_value_heads": 2, "linear_num_value_heads": 16,
        "tie_word_embeddings": true, "torch_dtype": "bfloat16"
    }))
    .unwrap();
    assert_eq!(state_bytes(&spec, Dtype::Bf16), 18 * (16 * 128 * 128 * 4 + 3 * 6144 * 2));
    assert_eq!(kv_bytes_per_token(&spec, Dtype::Bf16), 6 * 2 * 2 * 256 * 2);
    let row = |tokens| row_bytes(&spec, Dtype::Bf16, tokens, Device::Cpu);
    assert_eq!(row(1100) - row(100), 1000 * 6 * 2 * 2 * 256 * 2);
    // Inputs and projections in bf16; in fp32 6144 projected, then convolved, and 2048 outputs.
    let delta = 2 * (6144 + 2048) + 4 * (2 * 6144 + 5 * 2048);
    assert_eq!(pass_bytes_per_token(&spec, Dtype::Bf16, Device::Cpu), 2 * (2 * 5 * 1024 + delta));
    assert!(pass_bytes_per_token(&spec, Dtype::Bf16, Device::Cuda(0)) > 2 * delta);
}

#[test]
fn weights_held_in_one_type_and_computed_in_another() {
    let spec = llama_8b();
    let mixed = DtypePolicy { weights: Dtype::Bf16, compute: Dtype::F32, streamed: false };
    let need = |policy: DtypePolicy| Need::new(&spec, policy, PASSES, Device::Cpu);
    let (mixed, half, single) = (need(mixed), need(Dtype::Bf16.into()), need(Dtype::F32.into()));
    assert_eq!(mixed.weights, half.weights);
    // The embedding is the largest: 128,256 x 4,096 numbers of 4 bytes.
    assert_eq!(mixed.work, single.work + 128_256 * 4096 * 4);
}

#[test]
fn a_quantised_checkpoint_needs_what_it_is_dequantised_to() {
    let plain = llama_8b();
    let quantization = Some(Quantization::Fp8 { block: Some([128, 128]) });
    let quantised = Spec { quantization, ..plain.clone() };
    let need = |spec: &Spec, device| Need::new(spec, Dtype::Bf16, PASSES, device);
    let [cpu, gpu] = [Device::Cpu, Device::Cuda(0)];
    for device in [cpu, gpu] {
        assert_eq!(need(&quantised, device).weights, need(&plain, device).weights);
    }
    // One part of a matrix at a time, and on a GPU in addition to the matrix as stored.
    let at_once = need(&quantised, cpu).tensor;
    assert!(at_once > 0 && at_once < 1 << 29, "{at_once}");
    assert!(need(&quantised, gpu).tensor > at_once);
    // Quantised blocks cannot be streamed in their stored format.
    let refusal = fits(&quantised, Dtype::Bf16, Work::Little, cpu, &free(8.0)).unwrap_err();
    assert!(refusal.remedies.is_empty(), "{:?}", refusal.remedies);
}

#[test]
fn a_need_is_weights_and_the_larger_of_a_tensor_and_the_work() {
    let spec = llama_8b();
    let [cpu, gpu] = [Device::Cpu, Device::Cuda(0)];
    // On a GPU gate and up are joined, 2 x 14336 x 4096 numbers.
    for (device, tensor) in [(cpu, 0), (gpu, 2 * 2 * 14_336 * 4096)] {
        let bf16 = Need::new(&spec, Dtype::Bf16, Work::Little, device);
        assert_eq!(bf16, Need { weights: 2 * 8_030_261_248, tensor, work: 0 });
        assert_eq!(bf16.total(), bf16.weights + tensor);
    }
    let embed = 128_256 * 4096 * 2;
    let f32 = Need::new(&spec, Dtype::F32, Work::Little, gpu);
    assert_eq!((f32.weights, f32.tensor), (4 * 8_030_261_248, embed));
    assert_eq!(f32.total(), f32.weights + embed);
    assert_eq!(Need::new(&spec, Dtype::F32, Work::Little, cpu).tensor, 0);
    let f32 = Need::new(&spec, Dtype::F32, PASSES, gpu);
    assert_eq!(f32.work, 8192 * 2 * 4 * (5 * 4096 + 2 * 1024 + 4 * 14336));
    assert_eq!(f32.total(), f32.weights + f32.work);
    // Grouped-query attention: 8 of 32 heads, 128 wide, in 32 layers.
    assert_eq!(kv_bytes_per_token(&spec, Dtype::Bf16), 131_072);
    // 128 texts of 256 + 512 tokens: 12.9 GB of keys and values, and prompts' passes of 32768 tokens.
    let work = Work::Generation { rows: 128, max_new_tokens: 512 };
    let prompts = 32_768 * pass_bytes_per_token(&spec, Dtype::Bf16, Device::Cpu);
    assert_eq!(Need::new(&spec, Dtype::Bf16, work, cpu).work, 128 * 768 * 131_072 + prompts);
}

#[track_caller]
fn refusal(dtype: Dtype, work: Work, gb: f64) -> Refusal {
    *fits(&llama_8b(), dtype, work, Device::Cpu, &free(gb)).expect_err("it fits")
}

#[test]
fn a_streamed_model_needs_two_blocks_and_the_residuals_that_wait() {
    let spec = llama_8b();
    let streamed = DtypePolicy { streamed: true, ..Dtype::Bf16.into() };
    let work = Work::Passes { batch_tokens: 8192, waiting: 50_000 };
    let need = Need::new(&spec, streamed, work, Device::Cpu);
    // Queries and outputs 2 x 4096^2, keys and values 2 x 1024 x 4096, the MLP 3 x 14336 x 4096, two norms.
    let block = 2 * 4096 * 4096 + 2 * 1024 * 4096 + 3 * 14_336 * 4096 + 2 * 4096;
    assert_eq!(need.weights, 2 * 2 * block);
    let whole = Need::new(&spec, Dtype::Bf16, PASSES, Device::Cpu);
    assert_eq!(need.work, whole.work + 50_000 * 4096 * 2);
    // 16.1 GB of weights do not fit into 8 GB; two blocks and their work do.
    let refusal = refusal(Dtype::Bf16, Work::Little, 8.0);
    assert_eq!(refusal.remedies, ["`offload = \"layers\"` (0.9 GB; slow)"]);
    // On a GPU they wait where memory remains, and the block that is read ahead is in host memory.
    let on_gpu = Need::new(&spec, streamed, work, Device::Cuda(0));
    assert_eq!((on_gpu.weights, on_gpu.work), (2 * block, whole.work));
}

#[test]
fn what_fits_is_not_refused() {
    let spec = llama_8b();
    for (dtype, work) in [(Dtype::Bf16, Work::Little), (Dtype::F16, PASSES), (Dtype::F32, PASSES)] {
        let total = Need::new(&spec, dtype, work, Device::Cpu).total();
        let exact = FreeMemory { bytes: total, from: String::new() };
        assert_eq!(fits(&spec, dtype, work, Device::Cpu, &exact), Ok(()));
        let less = FreeMemory { bytes: total - 1, ..exact };
        assert!(fits(&spec, dtype, work, Device::Cpu, &less).is_err());
    }
    // The machine on which such a checkpoint must open.
    assert_eq!(fits(&spec, Dtype::Bf16, PASSES, Device::Cpu, &free(22.0)), Ok(()));
    assert_eq!(check(&spec, Dtype::F32, PASSES, Device::Cpu, None), Ok(()));
}

#[test]
fn a_refusal_offers_only_what_would_fit() {
    // f32: 32.1 GB of weights and 5.2 GB of work; bf16: 16.1 GB and 2.6 GB.
    assert_eq!(refusal(Dtype::F32, PASSES, 20.0).remedies, ["`dtype = \"bf16\"` (18.7 GB)"]);
    assert_eq!(
        refusal(Dtype::F32, PASSES, 35.0).remedies,
        ["`dtype = \"bf16\"` (18.7 GB)", "`batch_tokens = 4096`"]
    );
    assert_eq!(refusal(Dtype::Bf16, PASSES, 17.5).remedies, ["`batch_tokens = 4096`"]);
    // Two blocks of bf16 take 0.9 GB, and a weight as f32 2.1 GB at most.
    assert_eq!(refusal(Dtype::F32, PASSES, 18.0).remedies, ["`offload = \"layers\"` (8.2 GB; slow)"]);
    assert!(refusal(Dtype::F32, PASSES, 7.0).remedies.is_empty());
    let generation = Work::Generation { rows: 128, max_new_tokens: 512 };
    assert_eq!(refusal(Dtype::Bf16, generation, 36.0).remedies, ["`max_new_tokens = 256`"]);
    assert!(refusal(Dtype::Bf16, Work::Little, 0.4).remedies.is_empty());
}

#[test]
fn a_refusal_says_its_numbers() {
    assert_eq!(
        refusal(Dtype::F32, PASSES, 20.0).to_string(),
        "it does not fit into memory: 37.4 GB are needed (32.1 GB of weights as f32, 5.2 GB for 8192 tokens at \
         once), 20.0 GB are available (a made-up machine). What would fit: `dtype = \"bf16\"` (18.7 GB)"
    );
    assert_eq!(
        refusal(Dtype::Bf16, Work::Little, 0.4).to_string(),
        "it does not fit into memory: 16.1 GB are needed (16.1 GB of weights as bf16), 0.4 GB are available (a made-up \
         machine). A machine with 16.1 GB would be enough"
    );
    let gpu = fits(&llama_8b(), Dtype::F32, Work::Little, Device::Cuda(0), &free(33.0)).unwrap_err();
    assert_eq!(
        gpu.to_string(),
        "it does not fit into memory: 33.2 GB are needed (32.1 GB of weights as f32, 1.1 GB while they are \
         loaded), 33.0 GB are available (a made-up machine). What would fit: `dtype = \"bf16\"` (16.3 GB)"
    );
}

#[test]
fn sizes_of_a_stranger_do_not_wrap_around() {
    let side = 1 << 28;
    // Larger than a config may specify (`family/bounds.rs`): the calculation does not rely on that check.
    let mut spec = Spec::from_config(&json!({
        "architectures": ["LlamaForCausalLM"], "hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 2,
        "num_hidden_layers": 1000, "vocab_size": 8, "torch_dtype": "float32"
    }))
    .unwrap();
    (spec.d_model, spec.d_vocab, spec.n_heads) = (side, side, side);
    spec.attentions().for_each(|(_, of)| (of.d_head, of.n_kv_heads) = (side, side));
    spec.layers.iter_mut().for_each(|layer| layer.d_mlp = Some(side));
    let need =
        Need::new(&spec, Dtype::F32, Work::Generation { rows: 128, max_new_tokens: usize::MAX }, Device::Cpu);
    assert_eq!((need.weights, need.total()), (u64::MAX, u64::MAX));
    assert!(kv_bytes_per_token(&spec, Dtype::F32) > 1 << 40 && need.work > 1 << 50);
}
