//! The product of the residual stream with a direction at each token of texts while they are written. Knows nothing of what it
//! means.

use std::cell::RefCell;
use std::rc::Rc;

use super::batch::Batch;
use super::device::{fetch, send};
use super::hook::Hook;
use super::layer::Layer;
use tch::{Device, Kind, Tensor};

/// A token's product.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Traced {
    /// The place of its text among the prompts.
    pub sequence: usize,
    /// Which of the text's tokens, from its first on.
    pub token: usize,
    /// The product.
    pub value: f32,
}

/// Where products of the last passes are.
pub type Products = Rc<RefCell<Vec<Traced>>>;

/// Multiplies the residual stream at a layer with a direction, as it is when the hook's turn comes: of several hooks, those
/// before it have changed it already.
pub struct Trace {
    layer: Layer,
    /// `[d_model]` fp32 on the device.
    direction: Tensor,
    products: Products,
}

impl Trace {
    /// With where its products come: whoever takes them out has those of the passes since the last time.
    pub fn new(layer: Layer, direction: &[f32], device: Device) -> (Trace, Products) {
        let products = Products::default();
        let direction = send(&Tensor::from_slice(direction), device);
        (Trace { layer, direction, products: products.clone() }, products)
    }
}

impl Hook for Trace {
    fn resid_post(&mut self, layer: Layer, resid: Tensor, batch: &Batch) -> Tensor {
        if layer == self.layer {
            let products = fetch(&resid.to_kind(Kind::Float).matmul(&self.direction));
            let mut all = self.products.borrow_mut();
            for row in 0..batch.rows() {
                let own = Vec::<f32>::try_from(products.get(row as i64).contiguous());
                let own = own.expect("fp32 on the CPU").into_iter().take(batch.lengths[row]);
                all.extend(own.enumerate().map(|(at, value)| Traced {
                    sequence: batch.sequences[row],
                    token: batch.starts[row] + at,
                    value,
                }));
            }
        }
        resid
    }

    fn first(&self) -> Option<Layer> {
        Some(self.layer)
    }
}
