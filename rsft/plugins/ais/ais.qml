{# A style for QGIS 3.26 or later: one symbol per category. Rendered by layers.py. -#}
{% macro options(values) %}<Option type="Map">{% for name, value in values.items() %}<Option name="{{ name }}" value="{{ value }}" type="QString"/>{% endfor %}</Option>{% endmacro %}
<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>
<qgis version="3.34.0" styleCategories="Symbology|Labeling|MapTips" labelsEnabled="{{ 1 if layer.marker else 0 }}">
<renderer-v2 type="categorizedSymbol" attr="{{ layer.column }}" symbollevels="0" forceraster="0" enableorderby="0">
 <categories>
  {% for label in layer.colors %}
  <category symbol="{{ loop.index0 }}" value="{{ label }}" label="{{ label }}" render="true" type="string"/>
  {% endfor %}
 </categories>
 <symbols>
  {% for color in layer.colors.values() %}
  <symbol name="{{ loop.index0 }}" type="{{ "marker" if layer.marker else "line" }}" alpha="1" clip_to_extent="1">
   {% if not layer.marker %}
   <layer class="ArrowLine" enabled="1" pass="0" locked="0">{{ options({"arrow_width": "0.4", "arrow_width_unit": "MM", "arrow_start_width": "0.4", "arrow_start_width_unit": "MM", "head_length": "2", "head_length_unit": "MM", "head_thickness": "1.2", "head_thickness_unit": "MM", "is_curved": "0", "is_repeated": "0"}) }}
    <symbol name="@{{ loop.index0 }}@0" type="fill" alpha="1"><layer class="SimpleFill" enabled="1" pass="0" locked="0">{{ options({"color": color, "style": "solid", "outline_style": "no"}) }}</layer></symbol>
   </layer>
   {% else %}
   <layer class="SimpleMarker" enabled="1" pass="0" locked="0">{{ options({"name": layer.marker, "color": color, "size": "3.2", "size_unit": "MM", "outline_color": "32,32,32,255", "outline_width": "0.4", "outline_style": "solid"}) }}</layer>
   {% endif %}
  </symbol>
  {% endfor %}
 </symbols>
</renderer-v2>
{% if layer.marker %}
<labeling type="simple"><settings calloutType="simple">
 <text-style fieldName="{{ layer.text }}" isExpression="1" fontSize="8" fontSizeUnit="Point" textColor="0,0,0,255" textOpacity="1"><text-buffer bufferDraw="1" bufferSize="0.7" bufferSizeUnits="MM" bufferColor="255,255,255,255" bufferOpacity="1"/></text-style>
 <placement placement="6" dist="1.5" distUnits="MM"/>
 <rendering scaleVisibility="1" scaleMax="100000" scaleMin="0" drawLabels="1" obstacle="1"/>
</settings></labeling>
{% endif %}
<mapTip enabled="1">[% replace(replace("reason", '&amp;', '&amp;amp;'), '&lt;', '&amp;lt;') %]</mapTip>
</qgis>
