//! Dot product of the residual stream with a direction at each token during generation. Independent of the direction's
//! meaning.

use std::cell::RefCell;
use std::rc::Rc;

use super::batch::Batch;
use super::device::{fetch, send};
use super::hook::Hook;
use super::layer::Layer;
use tch::{Device, Kind, Tensor};

/// The dot product at one token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Traced {
    /// Index of the text among the prompts.
    pub sequence: usize,
    /// Index of the token in the text.
    pub token: usize,
    /// The dot product.
    pub value: f32,
}

/// Shared buffer for the products of recent passes.
pub type Products = Rc<RefCell<Vec<Traced>>>;

/// Computes the dot product of the residual stream with a direction at one layer, in the state in which the hook
/// receives it: earlier hooks have already changed it.
pub struct Trace {
    layer: Layer,
    /// `[d_model]` fp32 on the device.
    direction: Tensor,
    products: Products,
}

impl Trace {
    /// Creates the hook and the buffer for its products. Taking the buffer's content yields the products since it was
    /// last taken.
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
                let own = Vec::<f32>::try_from(batch.row(&products, row).contiguous());
                let own = own.expect("fp32 on the CPU").into_iter();
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
