"use strict";
{% for name in ("terms", "tables", "choice", "slider", "map", "gallery") %}
{
{% include "script/" ~ name ~ ".js" %}
}
{% endfor %}
