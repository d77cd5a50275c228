-- put_routes: replaces the routes of the fleet. ARGV[2...]: expected version (-1: any; 0: none were
-- ever set), document (opaque). The same document under the version that it would replace changes
-- nothing.
-- Refused: another version.
-- Answers: 'OK', version | 'VERSION'.

local expected, document = tonumber(ARGV[2]), ARGV[3]

local routes = resources.routes() or { version = 0, was = 0 }
if routes.document == document and
    (expected == -1 or expected == routes.version or expected == routes.was) then
    return { 'OK', routes.version }
end
if expected ~= -1 and expected ~= routes.version then
    return { 'VERSION' }
end
local version = resources.next_revision()
redis.call('SET', ROUTES, string.format('%.0f %.0f\n', version, routes.version) .. document)
return { 'OK', version }
