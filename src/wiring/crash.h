/* The last words of a process. */
#ifndef MQFLEET_WIRING_CRASH_H
#define MQFLEET_WIRING_CRASH_H

/* From here on fatal signals let the log be written before they end the process. Before other
 * threads start. */
void crash_prepare(void);

#endif
