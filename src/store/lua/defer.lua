-- defer: a waiting id stays waiting, not before a later time, with a note why.
-- ARGV[2...]: id, delay_ms, code, message. No effect on an id that is not waiting.
-- Answers: 'OK'.

local id, delay_ms = ARGV[2], tonumber(ARGV[3])
check()
if redis.call('HEXISTS', NO, id) == 0 then
    return { 'OK' }
end
local attempt = attempt_of(id)
attempt.code, attempt.message, attempt.at = ARGV[4], ARGV[5], NOW_MS
attempt.error = false
put_off(id, attempt, delay_ms)
set_attempt(id, attempt)
return { 'OK' }
