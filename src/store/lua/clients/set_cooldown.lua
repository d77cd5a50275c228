-- set_cooldown: delays a waiting id and stores the reason. ARGV[2...]: id, delay_ms, code, message.
-- No effect on an id that is not waiting.
-- Answers: 'OK', again (1: the same reason was stored for the same configuration before; 0: it is
-- new).

local id, delay_ms = ARGV[2], tonumber(ARGV[3])
check()
if redis.call('HEXISTS', NO, id) == 0 then
    return { 'OK', 1 }
end
local attempt = attempt_of(id)
local text = redis.sha1hex(redis.call('HGET', NO, id))
local again = attempt.code == ARGV[4] and attempt.message == ARGV[5] and attempt.text == text
attempt.code, attempt.message, attempt.at = ARGV[4], ARGV[5], NOW_MS
attempt.error, attempt.text = false, text
delay_retry(id, attempt, delay_ms)
set_attempt(id, attempt)
return { 'OK', again and 1 or 0 }
