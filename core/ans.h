/* Symbols and table indexes <-> words: a stack of asymmetric numeral systems. */
#ifndef HPCM_ANS_H
#define HPCM_ANS_H

#include <stddef.h>
#include <stdint.h>

#include "hpcm.h"

enum { HPCM_MAX_TABLES = 256 };

/* The number of the table for a scale: how many of all but the last entries of `scales` are smaller. */
uint8_t hpcm_table_of(const hpcm_tables *tables, float scale);

#endif
