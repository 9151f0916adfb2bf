//! Makes `Run` functions out of what happens in one lane.
//!
//! Every function exists twice: for any processor, and compiled for AVX2 and FMA, where a fused multiply-add is one
//! instruction instead of a call. The decoder takes the second where the processor has these.

/// Whether the faster variants may run.
pub(crate) fn fast() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        std::arch::is_x86_feature_detected!("avx2")
            && std::arch::is_x86_feature_detected!("fma")
            && std::arch::is_x86_feature_detected!("bmi1")
            && std::arch::is_x86_feature_detected!("bmi2")
            && std::arch::is_x86_feature_detected!("lzcnt")
            && std::arch::is_x86_feature_detected!("popcnt")
    }
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// The variant of an `#[inline(always)]` function `(machine, instruction, mask) -> Outcome` for this processor.
macro_rules! variant {
    ($body:expr) => {{
        unsafe fn plain(
            m: &mut $crate::machine::Machine<'_>,
            i: &$crate::instruction::Instruction,
            mask: u32,
        ) -> $crate::fault::Outcome {
            $body(m, i, mask)
        }
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2,fma,bmi1,bmi2,lzcnt,popcnt")]
        unsafe fn fast(
            m: &mut $crate::machine::Machine<'_>,
            i: &$crate::instruction::Instruction,
            mask: u32,
        ) -> $crate::fault::Outcome {
            $body(m, i, mask)
        }
        #[cfg(target_arch = "x86_64")]
        let chosen: $crate::instruction::Run = if $crate::operation::fast() { fast } else { plain };
        #[cfg(not(target_arch = "x86_64"))]
        let chosen: $crate::instruction::Run = plain;
        chosen
    }};
}

/// d = expression of a.
macro_rules! op1 {
    ($a:ty => $r:ty, |$x:ident| $e:expr) => {{
        #[inline(always)]
        fn lane($x: $a) -> $r {
            $e
        }
        #[inline(always)]
        fn body(
            m: &mut $crate::machine::Machine<'_>,
            i: &$crate::instruction::Instruction,
            mask: u32,
        ) -> $crate::fault::Outcome {
            m.warp.registers.unary::<$a, $r>([i.d, i.a], mask, lane);
            Ok(())
        }
        $crate::operation::variant!(body)
    }};
}

/// d = expression of a and b.
macro_rules! op2 {
    ($a:ty, $b:ty => $r:ty, |$x:ident, $y:ident| $e:expr) => {{
        #[inline(always)]
        fn lane($x: $a, $y: $b) -> $r {
            $e
        }
        #[inline(always)]
        fn body(m: &mut $crate::machine::Machine<'_>, i: &$crate::instruction::Instruction, mask: u32) -> $crate::fault::Outcome {
            m.warp.registers.binary::<$a, $b, $r>([i.d, i.a, i.b], mask, lane);
            Ok(())
        }
        $crate::operation::variant!(body)
    }};
    ($t:ty, |$x:ident, $y:ident| $e:expr) => {
        $crate::operation::op2!($t, $t => $t, |$x, $y| $e)
    };
}

/// d = expression of a, b and c.
macro_rules! op3 {
    ($a:ty, $b:ty, $c:ty => $r:ty, |$x:ident, $y:ident, $z:ident| $e:expr) => {{
        #[inline(always)]
        fn lane($x: $a, $y: $b, $z: $c) -> $r {
            $e
        }
        #[inline(always)]
        fn body(m: &mut $crate::machine::Machine<'_>, i: &$crate::instruction::Instruction, mask: u32) -> $crate::fault::Outcome {
            m.warp.registers.ternary::<$a, $b, $c, $r>([i.d, i.a, i.b, i.c], mask, lane);
            Ok(())
        }
        $crate::operation::variant!(body)
    }};
    ($t:ty, |$x:ident, $y:ident, $z:ident| $e:expr) => {
        $crate::operation::op3!($t, $t, $t => $t, |$x, $y, $z| $e)
    };
}

/// A function of machine, instruction and mask that answers nothing.
macro_rules! act {
    (|$m:ident, $i:ident, $mask:ident| $e:expr) => {{
        #[inline(always)]
        fn body(
            $m: &mut $crate::machine::Machine<'_>,
            $i: &$crate::instruction::Instruction,
            $mask: u32,
        ) -> $crate::fault::Outcome {
            $e;
            Ok(())
        }
        $crate::operation::variant!(body)
    }};
}

pub(crate) use {act, op1, op2, op3, variant};
