-- report_quota_use: what the clients of a node use of the rates of their quotas. ARGV[2...]: node,
-- incarnation, report (JSON, opaque; replaces the one before).
-- Refused: the node is not a member ('STATE').
-- Answers: 'OK', name and report of each node that reported within the last 10 s, this one included.

local node, incarnation, report = ARGV[2], ARGV[3], ARGV[4]

if not member(node, incarnation) then
    return { 'STATE' }
end
redis.call('HSET', quotas.use_key, node, string.format('%.0f\n', NOW_MS) .. report)
return { 'OK', quotas.uses(true) }
