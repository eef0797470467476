/* What statuses mean, for people. */
#ifndef HPCM_MESSAGE_H
#define HPCM_MESSAGE_H

#include "../status.h"

/* A status, with a message of HPCM_MESSAGE bytes as printf makes it. */
hpcm_status hpcm_say(char *message, hpcm_status status, const char *format, ...)
#ifdef __GNUC__
    __attribute__((format(printf, 3, 4)))
#endif
    ;

#endif
