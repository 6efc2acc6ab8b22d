/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Read by sparse before every file: what the newest kernel headers use and
 * released sparse does not know. Without it sparse reports an error in each
 * header and then keeps its real findings to itself.
 */

/* Like __typeof__ but for the qualifiers, which no check depends on. */
#define __typeof_unqual__ __typeof__

/* A constant of a string literal, where MODULE_INFO() asserts its length. */
#define __builtin_strlen(s) (sizeof(s) - 1)
