//! What a forward pass on the CPU computes without libtorch, in fp32: products of few rows, the attention of one token a row,
//! norms and rotations. There libtorch's calls take longer than their work, or its kernels are far from what the processor can do
//! (docs/design/performance.md). Each number is computed in one order, whatever stands beside it in the batch and however
//! many threads there are.

#[cfg(target_arch = "x86_64")]
mod attend;
#[cfg(target_arch = "x86_64")]
mod lanes;
#[cfg(target_arch = "x86_64")]
mod product;
#[cfg(target_arch = "x86_64")]
mod rows;
#[cfg(target_arch = "x86_64")]
mod team;

#[cfg(target_arch = "x86_64")]
pub use attend::attend;
#[cfg(target_arch = "x86_64")]
pub use product::product;
#[cfg(target_arch = "x86_64")]
pub use rows::{gated, rms_norm, rotate};

/// Of other processors nothing is known here.
#[cfg(not(target_arch = "x86_64"))]
mod elsewhere;
#[cfg(not(target_arch = "x86_64"))]
pub use elsewhere::{attend, gated, product, rms_norm, rotate};

use tch::{Device, Kind, Tensor};

/// Whether this is fp32 on the CPU, of which nobody wants gradients.
pub fn plain(x: &Tensor) -> bool {
    x.device() == Device::Cpu && x.kind() == Kind::Float && !x.requires_grad()
}

/// A place in memory that several threads write to, each to numbers of its own.
#[derive(Clone, Copy)]
pub struct Place(*mut f32);

// SAFETY: whoever makes one says who writes where.
unsafe impl Send for Place {}
unsafe impl Sync for Place {}

/// A place in memory that several threads read.
#[derive(Clone, Copy)]
pub struct Source<T>(*const T);

// SAFETY: nobody writes while it is read.
unsafe impl<T> Send for Source<T> {}
unsafe impl<T> Sync for Source<T> {}
