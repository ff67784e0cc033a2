"""What is read from a compiled program: loops, kernels, bytes and products."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import kernels

# As XLA writes it, without what is not read: 3 trips of a product whose left rows are
# a slice of a table, and of which a row of a buffer is made.
_TEXT = """
HloModule jit_f, is_scheduled=true

%product (p.0: f32[9,4,5], p.1: f32[5,6], p.2: s32[]) -> f32[4,6] {
  %p.1 = f32[5,6]{1,0} parameter(1)
  %p.0 = f32[9,4,5]{2,1,0} parameter(0)
  %p.2 = s32[] parameter(2)
  %slice = f32[1,4,5]{2,1,0} dynamic-slice(%p.0, %p.2), dynamic_slice_sizes={1,4,5}
  %left = f32[4,5]{1,0} bitcast(%slice)
  ROOT %dot.1 = f32[4,6]{1,0} dot(%left, %p.1), lhs_contracting_dims={1}, \
rhs_contracting_dims={0}, operand_precision={highest,highest}
}

%update (q.0: f32[3,24], q.1: f32[4,6], q.2: s32[]) -> f32[3,24] {
  %q.0 = f32[3,24]{1,0} parameter(0)
  %q.1 = f32[4,6]{1,0} parameter(1)
  %q.2 = s32[] parameter(2)
  %row = f32[1,24]{1,0} bitcast(%q.1)
  ROOT %put = f32[3,24]{1,0} dynamic-update-slice(%q.0, %row, %q.2)
}

%body (arg: (s32[], f32[3,24])) -> (s32[], f32[3,24]) {
  %arg = (s32[], /*index=1*/f32[3,24]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%arg), index=0
  %out = f32[3,24]{1,0} get-tuple-element(%arg), index=1
  %table = f32[9,4,5]{2,1,0} constant({...})
  %right = f32[5,6]{1,0} constant({...})
  %fusion = f32[4,6]{1,0} fusion(%table, %right, %i), kind=kCustom, calls=%product
  %new = f32[3,24]{1,0} fusion(%out, %fusion, %i), kind=kLoop, calls=%update
  ROOT %tuple = (s32[], f32[3,24]{1,0}) tuple(%i, %new)
}

%rounds (r: (s32[])) -> (s32[]) {
  %r = (s32[]) parameter(0)
  %k = s32[] get-tuple-element(%r), index=0
  %next = s32[] add(%k, %k)
  ROOT %t = (s32[]) tuple(%next)
}

%captured (y: (s32[])) -> (s32[]) {
  %y = (s32[]) parameter(0)
  ROOT %w = (s32[]) while(%y), condition=%cond, body=%rounds
}

ENTRY %main (x: (s32[], f32[3,24])) -> (s32[], f32[3,24]) {
  %x = (s32[], f32[3,24]{1,0}) parameter(0)
  %c = (s32[], f32[3,24]{1,0}) copy(%x)
  %zero = s32[] constant(0)
  %start = (s32[]) tuple(%zero)
  %called = (s32[]) call(%start), to_apply=%captured
  ROOT %while = (s32[], f32[3,24]{1,0}) while(%c), condition=%cond, body=%body, \
backend_config={"known_trip_count":{"n":"3"}}
}
"""


def test_a_part_of_an_operand_counts_as_the_part():
    program = kernels.read(_TEXT)
    assert program.launches() == 1 + 3 * 2 + 1
    numbers = {kernel.name: number for kernel, number in program.launched()}
    assert numbers == {"c": 1, "fusion": 3, "new": 3, "next": 1}
    assert [kernel.name for kernel in program.kernels] == ["c"]
    (loop,) = program.find(3)
    product, update = loop.kernels
    assert product.num_bytes == 4 * (4 * 5 + 5 * 6 + 1 + 4 * 6)
    assert product.flop == 2 * 4 * 5 * 6
    assert update.num_bytes == 4 * (4 * 6 + 1 + 24) and update.flop == 0


def test_a_kernel_takes_what_it_waits_for_longest():
    kernel = kernels.Kernel("one", num_bytes=600, flop=50)
    assert kernel.seconds(latency=1.0, bandwidth=100.0, speed=100.0) == 6.0
    assert kernel.seconds(latency=7.0, bandwidth=100.0, speed=100.0) == 7.0
    assert kernel.seconds(latency=1.0, bandwidth=1e3, speed=5.0) == 10.0


def test_what_a_cpu_compiles_is_read_as_well():
    @jax.jit
    def scan(x, ys):
        return jax.lax.scan(lambda x, y: (jnp.sin(x @ y), x.sum()), x, ys)

    text = scan.lower(np.ones((4, 4)), np.ones((7, 4, 4))).compile().as_text()
    (loop,) = kernels.read(text).find(7)
    assert sum(kernel.flop for kernel in loop.kernels) == 2 * 4**3


def test_a_product_of_a_library_is_not_taken_for_none():
    target = 'custom_call_target="__cublas$gemm"'
    text = _TEXT.replace("copy(%x)", f"custom-call(%x), {target}")
    with pytest.raises(ValueError, match="expected products as dots, got c of a lib"):
        kernels.read(text)


def test_a_text_of_something_else_is_refused():
    with pytest.raises(ValueError, match="expected the text of a compiled program"):
        kernels.read("nothing")
