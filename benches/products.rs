//! Measures the fp32 products of our own kernel on the CPU, and of the library that this processor would use, in GFLOP/s:
//! the best of several rounds by turns, over matrices that together do not fit in the caches, as in a pass. The number of
//! rows from which the library is the faster one is what `Many::rows` of `lm/backend` says.
//!
//!     cargo bench --bench products

use std::time::Instant;

use emoflow::lm::cpu::{Registers, is_intel, product};
use emoflow::lm::heap;
use tch::{Device, Kind, Tensor};

/// `[in, out]` of matrices: of SmolLM2-135M, Qwen2.5-0.5B, Llama-3.2-1B and Llama-3.1-8B.
const MATRICES: [[i64; 2]; 6] =
    [[576, 576], [576, 1536], [1536, 576], [896, 4864], [2048, 8192], [4096, 14336]];

fn main() {
    let Some(&on) = Registers::here().first() else {
        println!("this processor has no kernels of our own");
        return;
    };
    let _no_grad = tch::no_grad_guard();
    heap::keep(); // as when models are loaded: results do not fault in their pages each time
    let library = if is_intel() { "MKL" } else { "oneDNN" };
    println!("{} threads, {}", tch::get_num_threads(), on.name());
    println!(
        "| in x out | rows | ours | ours, weights in bf16 | ours, unaligned | {library} |\n|---|---|---|---|---|---|"
    );
    for [inner, out] in MATRICES {
        let count = (32 << 20) / (inner * out) + 2;
        // Unaligned as in a mapped file: two numbers after the start of a cache line.
        let matrices = |kind, skip| -> Vec<Tensor> {
            let one = || Tensor::randn([inner * out + skip], (Kind::Float, Device::Cpu)).to_kind(kind);
            (0..count).map(|_| one().narrow(0, skip, inner * out).view([out, inner])).collect()
        };
        let sets = [matrices(Kind::Float, 0), matrices(Kind::BFloat16, 0), matrices(Kind::Float, 2)];
        for rows in [1, 32, 64, 128, 256, 512, 1024, 2048] {
            let x = Tensor::randn([rows, inner], (Kind::Float, Device::Cpu));
            let mut best = [f64::INFINITY; 4];
            for _ in 0..5 {
                for (way, best) in best.iter_mut().enumerate() {
                    let begun = Instant::now();
                    for matrix in &sets[way % 3] {
                        let _ = match way {
                            3 => by_library(&x, matrix),
                            _ => product(on, &x, matrix, None),
                        };
                    }
                    *best = best.min(begun.elapsed().as_secs_f64() / count as f64);
                }
            }
            let [own, half, unaligned, library] =
                best.map(|seconds| 2e-9 * (rows * inner * out) as f64 / seconds);
            println!("| {inner} x {out} | {rows} | {own:.0} | {half:.0} | {unaligned:.0} | {library:.0} |");
        }
    }
}

/// As `Backend::linear` computes products of many rows.
fn by_library(x: &Tensor, weight: &Tensor) -> Tensor {
    if is_intel() {
        return x.linear(weight, None::<Tensor>);
    }
    let picture = x.unsqueeze(0).unsqueeze(0).permute([0, 3, 1, 2]);
    picture.conv2d(&weight.unsqueeze(-1).unsqueeze(-1), None::<Tensor>, [1, 1], [0, 0], [1, 1], 1)
}
