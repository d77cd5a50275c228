-- rebalance: an operator asks all nodes to level their numbers of clients. ARGV[2...]: clients per
-- second (0: ends the request), ttl_ms, renew (1: only prolongs a request, whatever its rate).
-- Nodes renew it while clients move; so it ends by itself once nothing moves any more.
-- Answers: 'OK'.

local rate, ttl_ms = to_integer(ARGV[2]) or 0, ARGV[3]
if ARGV[4] == '1' then
    rate = to_integer(redis.pcall('GET', LEVELLING.REBALANCE)) or 0
end
if rate > 0 then
    redis.call('SET', LEVELLING.REBALANCE, string.format('%.0f', rate), 'PX', ttl_ms)
elseif ARGV[4] ~= '1' then
    redis.call('DEL', LEVELLING.REBALANCE)
end
return { 'OK' }
