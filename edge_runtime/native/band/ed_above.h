/* How much of what lies above 8 kHz passes: as the network says of the band below, and by its own energy.
 *
 * The network takes first sounds of a word for noise, sibilants most of all: they sound like it, and no voice was there
 * before. But above 8 kHz, where rooms are quiet, they are loud, and they last, evenly; keys, clicks and cups die away.
 * So what stays evenly above the noise there for longer than a click passes, whatever the network did below. What lasts
 * longer than a sibilant is noise again, and learnt as such. And where the network is in doubt, what dies away is held down.
 */
#ifndef ED_ABOVE_H
#define ED_ABOVE_H

#define ED_ABOVE_AHEAD 4  /* blocks of 4 ms that are known before they are heard: a hop */
#define ED_ABOVE_BEFORE 4 /* and that must have been loud before; fewer, and keys pass */
#define ED_ABOVE_HELD 8   /* blocks that one stays open: it lasted for so long before it was seen */

typedef struct {
    float energies[ED_ABOVE_BEFORE + 1 + ED_ABOVE_AHEAD]; /* of the last blocks, oldest first */
    float lasting[ED_ABOVE_HELD + 1];                     /* what lasted around each of the last blocks */
    float noise;                                          /* its energy in a block */
    int n_learnt, n_open;                                 /* blocks; of the second, since it opened */
} ed_above;

/* The gain of the next block, 0 to 1. `energy` is that of the block ED_ABOVE_AHEAD later, `gain` the network's of this
 * one: by it noise is learnt. All zeros to start with. */
float ed_above_gain(ed_above *above, float energy, float gain);

#endif
