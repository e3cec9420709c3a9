/* What early_module.c shows of itself: blocks made before any constructor of libmemlimit's ran. */
#pragma once

enum { kEarlyBlocks = 200 };

/** The block with that index, NULL once forgotten. Any thread. */
void* early_block(int index);

/** Tells the module that the caller has freed the block. */
void forget_early_block(int index);
