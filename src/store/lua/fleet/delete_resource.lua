-- delete_resource: removes a sink or a profile of the fleet. ARGV[2...]: 'sinks' or 'profiles',
-- name, expected version (0: any).
-- Refused: no such resource; another version.
-- Answers: 'OK' | 'NOT_FOUND' | 'VERSION'.

local hash, name, expected = resources.hashes[ARGV[2]], ARGV[3], tonumber(ARGV[4])

local resource = resources.of(hash, name)
if not resource then
    return { 'NOT_FOUND' }
end
if expected ~= 0 and expected ~= resource.version then
    return { 'VERSION' }
end
redis.call('HDEL', hash, name)
resources.next_revision()
return { 'OK' }
