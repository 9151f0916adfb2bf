//! Matrix instructions of a warp: fragments in, fragments out.
//!
//! With E elements in a register, lane l holds of A, in register r, row l/4 + 8·(r mod 2) (of 16) and columns
//! 4E·(r/2) + E·(l mod 4) and on; of B, rows 4E·r + E·(l mod 4) and on, and column l/4; of C and D, in value i, row
//! l/4 + 8·(i/2) and column 2·(l mod 4) + i mod 2. This is how every shape of the PTX ISA is laid out.

use crate::access::{SHARED, Touch};
use crate::fault::{FaultKind, Outcome, trouble};
use crate::float::{Rounding, Small};
use crate::instruction::Instruction;
use crate::machine::Machine;
use crate::registers::ALL;
use crate::types::Type;

/// One shape and its types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub rows: usize,
    pub depth: usize,
    pub a: Type,
    pub b: Type,
    /// Of C and D.
    pub c: Type,
    pub d: Type,
    pub saturate: bool,
}

impl Shape {
    /// Elements in one register of A or B.
    pub fn packed(&self) -> usize {
        match self.a {
            Type::F64 | Type::Tf32 => 1,
            Type::F16 | Type::Bf16 => 2,
            _ => 4,
        }
    }

    /// Registers of A, B, and C or D.
    pub fn counts(&self) -> (usize, usize, usize, usize) {
        let steps = self.depth / (4 * self.packed());
        let values = self.rows / 8 * 2;
        let of = |ty| if ty == Type::F16 { values / 2 } else { values };
        (self.rows / 8 * steps, steps, of(self.c), of(self.d))
    }

    /// The shapes that exist.
    pub fn exists(&self) -> bool {
        use Type::*;
        let (rows, depth) = (self.rows, self.depth);
        match (self.a, self.b) {
            (F16, F16) => {
                rows == 16
                    && matches!(depth, 8 | 16)
                    && matches!((self.c, self.d), (F32, F32) | (F16, F16) | (F32, F16) | (F16, F32))
            }
            (Bf16, Bf16) => rows == 16 && matches!(depth, 8 | 16) && (self.c, self.d) == (F32, F32),
            (Tf32, Tf32) => rows == 16 && matches!(depth, 4 | 8) && (self.c, self.d) == (F32, F32),
            (F64, F64) => {
                (rows == 8 && depth == 4 || rows == 16 && matches!(depth, 4 | 8 | 16)) && (self.c, self.d) == (F64, F64)
            }
            (S8 | U8, S8 | U8) => {
                (rows == 8 && depth == 16 || rows == 16 && matches!(depth, 16 | 32)) && (self.c, self.d) == (S32, S32)
            }
            _ => false,
        }
    }
}

/// All 32 lanes must take part.
fn whole(m: &Machine<'_>, mask: u32) -> Outcome {
    let _ = m;
    if mask == ALL {
        Ok(())
    } else {
        trouble(mask.trailing_zeros(), FaultKind::DivergentShuffle { member_mask: ALL, active: mask })
    }
}

/// D = A·B + C. Registers of D, A, B, C stand in this order in the list.
#[inline(always)]
pub(crate) fn multiply(m: &mut Machine<'_>, i: &Instruction, mask: u32) -> Outcome {
    whole(m, mask)?;
    let program = m.program;
    let shape = program.shapes[i.target as usize];
    let (na, nb, nc, nd) = shape.counts();
    let slots = &program.operands[i.list as usize..][..nd + na + nb + nc];
    let (ds, rest) = slots.split_at(nd);
    let (sa, rest) = rest.split_at(na);
    let (sb, sc) = rest.split_at(nb);
    let registers = &mut m.warp.registers;
    let per = shape.packed();
    // Row-major: A of 16 rows and at most 32 columns; B of 8 columns.
    let mut a = [[0.0f64; 32]; 16];
    let mut b = [[0.0f64; 8]; 32];
    let mut c = [[0.0f64; 8]; 16];
    let high = shape.rows / 8;
    for lane in 0..32u32 {
        let (group, within) = (lane as usize / 4, lane as usize % 4);
        for (r, &slot) in sa.iter().enumerate() {
            let (row, column) = (group + 8 * (r % high), 4 * per * (r / high) + per * within);
            read(registers, slot, lane, shape.a, &mut a[row][column..column + per]);
        }
        for (r, &slot) in sb.iter().enumerate() {
            let mut part = [0.0; 4];
            read(registers, slot, lane, shape.b, &mut part[..per]);
            for (e, &x) in part[..per].iter().enumerate() {
                b[4 * per * r + per * within + e][group] = x;
            }
        }
        for at in 0..2 * high {
            let value = match shape.c {
                Type::F64 => registers.get::<f64>(sc[at], lane),
                Type::F32 => f64::from(registers.get::<f32>(sc[at], lane)),
                Type::S32 => f64::from(registers.get::<i32>(sc[at], lane)),
                _ => Small::F16.value(registers.get::<u32>(sc[at / 2], lane) >> (16 * (at % 2)) & 0xffff),
            };
            c[group + 8 * (at / 2)][2 * within + at % 2] = value;
        }
    }
    for (row, sums) in a.iter().zip(&mut c).take(shape.rows) {
        if shape.a == Type::F64 {
            for (x, ys) in row.iter().zip(&b).take(shape.depth) {
                for (sum, y) in sums.iter_mut().zip(ys) {
                    *sum = x.mul_add(*y, *sum);
                }
            }
        } else {
            // Products of two narrow numbers are exact; C comes last, so that one rounding of the sum is left.
            let mut products = [0.0; 8];
            for (x, ys) in row.iter().zip(&b).take(shape.depth) {
                for (sum, y) in products.iter_mut().zip(ys) {
                    *sum += x * y;
                }
            }
            for (sum, product) in sums.iter_mut().zip(products) {
                *sum += product;
            }
        }
    }
    for lane in 0..32u32 {
        let (group, within) = (lane as usize / 4, lane as usize % 4);
        for half in 0..high {
            let sums = [c[group + 8 * half][2 * within], c[group + 8 * half][2 * within + 1]];
            if shape.d == Type::F16 {
                let [low, high] = sums.map(|x| Small::F16.bits(Small::F16.round(x, Rounding::Nearest)));
                registers.set::<u32>(ds[half], lane, high << 16 | low);
                continue;
            }
            for (e, x) in sums.into_iter().enumerate() {
                let slot = ds[2 * half + e];
                match shape.d {
                    Type::F64 => registers.set::<f64>(slot, lane, x),
                    Type::F32 => registers.set::<f32>(slot, lane, x as f32),
                    // Sums of 32 bits are exact in float64.
                    _ if shape.saturate => registers.set::<i32>(slot, lane, x as i32),
                    _ => registers.set::<u32>(slot, lane, x as i64 as u32),
                }
            }
        }
    }
    Ok(())
}

/// The numbers in one register.
#[inline(always)]
fn read(registers: &crate::registers::Registers, slot: u32, lane: u32, ty: Type, to: &mut [f64]) {
    match ty {
        Type::F64 => to[0] = registers.get::<f64>(slot, lane),
        Type::Tf32 => to[0] = Small::Tf32.value(registers.get::<u32>(slot, lane)),
        Type::Bf16 => {
            let bits = registers.get::<u32>(slot, lane);
            to[0] = f64::from(f32::from_bits(bits << 16));
            to[1] = f64::from(f32::from_bits(bits & 0xffff_0000));
        }
        Type::F16 => {
            let bits = registers.get::<u32>(slot, lane);
            to[0] = Small::F16.value(bits & 0xffff);
            to[1] = Small::F16.value(bits >> 16);
        }
        _ => {
            let bits = registers.get::<u32>(slot, lane);
            for (e, x) in to.iter_mut().enumerate() {
                let byte = (bits >> (8 * e)) as u8;
                *x = if ty == Type::S8 { f64::from(byte as i8) } else { f64::from(byte) };
            }
        }
    }
}

/// The eight rows of matrix `which`, whose addresses lanes 8·which and on hold.
fn row_addresses(
    m: &mut Machine<'_>,
    i: &Instruction,
    which: u32,
    touch: Touch,
) -> Result<[*mut u8; 8], Box<crate::fault::Trouble>> {
    let mut rows = [std::ptr::null_mut(); 8];
    for (row, at) in rows.iter_mut().enumerate() {
        let lane = 8 * which + row as u32;
        let address = m.address(i, lane);
        *at = match if i.mode & 2 != 0 {
            m.touch::<{ crate::access::GENERIC }>(i.index, lane, address, 16, touch)
        } else {
            m.touch::<SHARED>(i.index, lane, address, 16, touch)
        } {
            Ok(at) => at,
            Err(kind) => return trouble(lane, kind),
        };
    }
    Ok(rows)
}

/// The 16-bit elements that a lane holds of an 8 by 8 matrix, as (row, column), low half first.
fn held(lane: u32, transposed: bool) -> [(usize, usize); 2] {
    let (group, within) = (lane as usize / 4, 2 * (lane as usize % 4));
    if transposed { [(within, group), (within + 1, group)] } else { [(group, within), (group, within + 1)] }
}

pub(crate) fn load(m: &mut Machine<'_>, i: &Instruction, mask: u32) -> Outcome {
    whole(m, mask)?;
    let program = m.program;
    let slots = &program.operands[i.list as usize..][..usize::from(i.count)];
    // All addresses are read before any register is written: one may be the other.
    let mut values = [[0u32; 32]; 4];
    for (which, of) in values.iter_mut().enumerate().take(slots.len()) {
        let rows = row_addresses(m, i, which as u32, Touch::Read)?;
        for (lane, value) in of.iter_mut().enumerate() {
            let [low, high] = held(lane as u32, i.mode & 1 != 0);
            // SAFETY: every row has 16 bytes, eight elements.
            let get = |(row, column): (usize, usize)| unsafe { rows[row].cast::<u16>().add(column).read_unaligned() };
            *value = u32::from(get(high)) << 16 | u32::from(get(low));
        }
    }
    for (of, &slot) in values.iter().zip(slots) {
        for (lane, &value) in of.iter().enumerate() {
            m.warp.registers.set::<u32>(slot, lane as u32, value);
        }
    }
    Ok(())
}

pub(crate) fn store(m: &mut Machine<'_>, i: &Instruction, mask: u32) -> Outcome {
    whole(m, mask)?;
    let program = m.program;
    let slots = &program.operands[i.list as usize..][..usize::from(i.count)];
    for (which, &slot) in slots.iter().enumerate() {
        let rows = row_addresses(m, i, which as u32, Touch::Write)?;
        for lane in 0..32 {
            let bits = m.warp.registers.get::<u32>(slot, lane);
            for (e, (row, column)) in held(lane, i.mode & 1 != 0).into_iter().enumerate() {
                // SAFETY: every row has 16 bytes, eight elements.
                unsafe { rows[row].cast::<u16>().add(column).write_unaligned((bits >> (16 * e)) as u16) };
            }
        }
    }
    Ok(())
}

/// Transposes an 8 by 8 matrix that the warp holds.
pub(crate) fn transpose(m: &mut Machine<'_>, i: &Instruction, mask: u32) -> Outcome {
    whole(m, mask)?;
    let registers = &mut m.warp.registers;
    let mut matrix = [[0u16; 8]; 8];
    for lane in 0..32 {
        let bits = registers.get::<u32>(i.a, lane);
        for (e, (row, column)) in held(lane, false).into_iter().enumerate() {
            matrix[row][column] = (bits >> (16 * e)) as u16;
        }
    }
    for lane in 0..32 {
        let [low, high] = held(lane, true).map(|(row, column)| u32::from(matrix[row][column]));
        registers.set::<u32>(i.d, lane, high << 16 | low);
    }
    Ok(())
}
