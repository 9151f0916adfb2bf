//! Shuffles, votes and reductions. All lanes that the member mask names are here: the machine saw to that.

use crate::fault::{FaultKind, Outcome, trouble};
use crate::instruction::Instruction;
use crate::machine::{Machine, set_bits};
use crate::registers::lanes;

pub(crate) fn shuffle(m: &mut Machine<'_>, i: &Instruction, mask: u32) -> Outcome {
    let registers = &mut m.warp.registers;
    let values: [u32; 32] = std::array::from_fn(|lane| registers.get::<u32>(i.a, lane as u32));
    for lane in lanes(mask) {
        let own = lane as u32;
        let (b, c) = (registers.get::<u32>(i.b, own) & 31, registers.get::<u32>(i.c, own));
        let (clamp, segment) = (c & 31, c >> 8 & 31);
        let least = own & segment;
        let most = least | clamp & !segment;
        let (from, within) = match i.mode {
            0 => {
                let from = own.wrapping_sub(b) as i32;
                (from as u32, from >= most as i32)
            }
            1 => (own + b, own + b <= most),
            2 => (own ^ b, own ^ b <= most),
            _ => {
                let from = least | b & !segment;
                (from, from <= most)
            }
        };
        let from = if within { from } else { own };
        if mask >> from & 1 == 0 {
            let member_mask = registers.get::<u32>(i.m, own);
            return trouble(own, FaultKind::DivergentShuffle { member_mask, active: mask });
        }
        registers.set::<u32>(i.d, own, values[from as usize]);
        if i.count == 1 {
            set_bits(&mut m.warp.predicates[i.p as usize], 1 << lane, within);
        }
    }
    Ok(())
}

pub(crate) fn vote(m: &mut Machine<'_>, i: &Instruction, mask: u32) -> Outcome {
    let votes = (m.warp.predicates[i.r as usize] ^ i.r_flip) & mask;
    let answer = match i.mode {
        0 => votes == mask,
        1 => votes != 0,
        2 => votes == mask || votes == 0,
        _ => {
            for lane in lanes(mask) {
                m.warp.registers.set::<u32>(i.d, lane as u32, votes);
            }
            return Ok(());
        }
    };
    set_bits(&mut m.warp.predicates[i.p as usize], mask, answer);
    Ok(())
}

pub(crate) fn matching(m: &mut Machine<'_>, i: &Instruction, mask: u32) -> Outcome {
    let registers = &mut m.warp.registers;
    let values: [u64; 32] = std::array::from_fn(|lane| {
        let lane = lane as u32;
        if i.wide { registers.get::<u64>(i.a, lane) } else { u64::from(registers.get::<u32>(i.a, lane)) }
    });
    let equal = |value: u64| lanes(mask).filter(|&l| values[l] == value).fold(0u32, |all, l| all | 1 << l);
    let first = equal(values[mask.trailing_zeros() as usize & 31]);
    for lane in lanes(mask) {
        let answer = match i.mode {
            0 => equal(values[lane]),
            _ if first == mask => mask,
            _ => 0,
        };
        registers.set::<u32>(i.d, lane as u32, answer);
    }
    if i.count == 1 {
        set_bits(&mut m.warp.predicates[i.p as usize], mask, first == mask);
    }
    Ok(())
}

pub(crate) fn reduce(m: &mut Machine<'_>, i: &Instruction, mask: u32) -> Outcome {
    let registers = &mut m.warp.registers;
    let join = |a: u32, b: u32| match i.mode {
        0 | 8 => a.wrapping_add(b),
        1 => a.min(b),
        2 => a.max(b),
        9 => (a as i32).min(b as i32) as u32,
        10 => (a as i32).max(b as i32) as u32,
        3 => a & b,
        4 => a | b,
        _ => a ^ b,
    };
    let value = lanes(mask).map(|lane| registers.get::<u32>(i.a, lane as u32)).reduce(join).unwrap_or(0);
    for lane in lanes(mask) {
        registers.set::<u32>(i.d, lane as u32, value);
    }
    Ok(())
}

pub(crate) fn elect(m: &mut Machine<'_>, i: &Instruction, mask: u32) -> Outcome {
    let leader = mask.trailing_zeros();
    for lane in lanes(mask) {
        m.warp.registers.set::<u32>(i.d, lane as u32, leader);
    }
    set_bits(&mut m.warp.predicates[i.p as usize], mask, false);
    set_bits(&mut m.warp.predicates[i.p as usize], 1 << leader, true);
    Ok(())
}
