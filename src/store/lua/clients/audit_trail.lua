-- audit_trail: the records of changes of one id, the oldest first; changes nothing. ARGV[2...]: id,
-- how long the trail is kept in ms.
-- Answers: 'OK', a line "time from to record" for each | 'NOT_FOUND': no such id, and no record.

local lines = audit_lines(ARGV[2], tonumber(ARGV[3]))
if #lines == 0 and not exists(ARGV[2]) then
    return { 'NOT_FOUND' }
end
return { 'OK', lines }
