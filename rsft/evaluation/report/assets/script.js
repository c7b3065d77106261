"use strict";
{% for name in ("tables", "gallery") %}
{
{% include "script/" ~ name ~ ".js" %}
}
{% endfor %}
