-- said: terms [[rule, kind, limit, burst, window, shadow, stamp]].
local lost = guard()
if lost then return lost end

local changed, wrote = {}, false
for _, t in ipairs(said.terms) do
  local rule, old = t[1], terms_of(t[1])
  if set_rule(rule, {t[2], t[3], t[4], t[5], t[6], t[7]}) and old then
    local new = terms_of(rule)
    redis.call('PUBLISH', EDITED, rule)
    if old[2] ~= new[2] or old[3] ~= new[3] or old[4] ~= new[4] then
      local names = redis.call('ZRANGEBYLEX', NAMES, '[' .. rule .. '|', '[' .. rule .. '|\255')
      for _, name in ipairs(names) do changed[#changed + 1] = name end
      if most_of(new[1], new[2], new[3]) > most_of(old[1], old[2], old[3]) and #names > 0 then
        redis.call('PUBLISH', WET, table.concat(names, '\n'))
      end
    end
  end
  wrote = wrote or terms_of(rule) ~= old
end
return finish(changed, wrote)
