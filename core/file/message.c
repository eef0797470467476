#include "message.h"

#include <stdarg.h>
#include <stdio.h>

hpcm_status hpcm_say(char *message, hpcm_status status, const char *format, ...) {
    va_list values;
    va_start(values, format);
    vsnprintf(message, HPCM_MESSAGE, format, values);
    va_end(values);
    return status;
}
