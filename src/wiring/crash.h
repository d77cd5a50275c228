/* The log of a process that crashes. */
#ifndef MQFLEET_WIRING_CRASH_H
#define MQFLEET_WIRING_CRASH_H

/* From now on fatal signals let the log be written before they end the process. Call before other
 * threads start. */
void crash_prepare(void);

#endif
