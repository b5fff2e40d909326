"""A gated recurrent unit runs over a sequence; its gradient is written out by hand.

    r = sigmoid(x_r + h W_r)    z = sigmoid(x_z + h W_z)    n = tanh(x_n + r (h W_n + b))    h' = (1 - z) n + z h

This is the unit of Cho et al. 2014 in cuDNN's form, where the reset gate r multiplies the product h W_n + b
(`reset_after=True` in Keras, `GRUCell` in Flax). The input's share x = input W_x + b_x does not depend on h, so the
caller computes it in one product over all steps.

Automatic differentiation adds up the kernel's gradient step by step. Here that gradient is one product over all steps
at the end, and the backward loop keeps only what the next step needs. Under XLA on a CPU this halves the time of the
recurrence.
"""

import tensorflow as tf


def unroll(x: tf.Tensor, state: tf.Tensor, keep: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
    """Computes the hidden state after each step of a sequence.

    Args:
        x: [T, B, N, 3H], the input's share of r, z and n, in this order.
        state: [B, N, H], hidden state before the first step; a constant for the gradient.
        keep: [T, B], 0 where the step starts from a state of zeros (a new episode), 1 elsewhere.
        kernel: [H, 3H] if all agents share it, [N, H, 3H] if each agent has its own.
        bias: [H] or [N, H], the b of the candidate state n.
    Returns:
        Hidden states after each step, [T, B, N, H].
    """
    keep, state = keep[..., None, None], tf.stop_gradient(state)
    agent = "n" if len(kernel.shape) == 3 else ""

    def step(x: tf.Tensor, h: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """Returns the new state h', then r, z, n and the product h W_n + b that r multiplies, each [B, N, H]."""
        x_r, x_z, x_n = tf.split(x, 3, axis=-1)
        h_r, h_z, h_n = tf.split(tf.einsum(f"bni,{agent}io->bno", h, kernel), 3, axis=-1)
        r, z, h_n = tf.sigmoid(x_r + h_r), tf.sigmoid(x_z + h_z), h_n + bias
        n = tf.tanh(x_n + r * h_n)
        return n + z * (h - n), r, z, n, h_n

    if x.shape[0] == 1:  # acting, step by step
        return step(x[0], state * keep[0], kernel, bias)[0][None]

    @tf.custom_gradient
    def states(x: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor):
        def forward(last, row):
            x, keep = row
            h, r, z, *_ = last
            # Adding 0 * (r + z) makes XLA keep the gates in memory. Otherwise, where no gradient asks for them, XLA
            # computes them within the loop of n and does not vectorise that loop: up to three times the time.
            before = h * keep + 0.0 * (r + z)
            return (*step(x, before, kernel, bias), before)

        h, *kept = tf.scan(forward, (x, keep), initializer=(state,) * 6)
        before = kept[-1]

        def gradient(d_h: tf.Tensor):
            def backward(later, row):
                d_h, keep, r, z, n, h_n, before = row
                d_h += later[0]
                d_z = d_h * (before - n) * z * (1.0 - z)
                d_n = d_h * (1.0 - z) * (1.0 - tf.square(n))
                d_r = d_n * h_n * r * (1.0 - r)
                d_x = tf.concat([d_r, d_z, d_n], axis=-1)
                d_product = tf.concat([d_r, d_z, d_n * r], axis=-1)
                d_before = (d_h * z + tf.einsum(f"bno,{agent}io->bni", d_product, kernel)) * keep
                return d_before, d_x, d_product

            zeros = tf.zeros_like(state), tf.zeros_like(x[0]), tf.zeros_like(x[0])
            _, d_x, d_product = tf.scan(backward, (d_h, keep, *kept), initializer=zeros, reverse=True)
            d_kernel = tf.einsum(f"tbni,tbno->{agent}io", before, d_product)
            d_h_n = tf.split(d_product, 3, axis=-1)[-1]
            return d_x, d_kernel, tf.reduce_sum(d_h_n, axis=[0, 1] if agent else [0, 1, 2])

        return h, gradient

    return states(x, kernel, bias)
