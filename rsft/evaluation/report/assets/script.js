"use strict";
{% for name in ("terms", "tables", "gallery") %}
{
{% include "script/" ~ name ~ ".js" %}
}
{% endfor %}
